// Package stdio holds the tests of servers that are processes.
package stdio
