// Package chaos holds a test of everything at once: agents of every kind work while servers and cache tiers are killed,
// hung, slowed and cut off by chance, from a seed. What agents were told is then compared with what the servers did.
package chaos
