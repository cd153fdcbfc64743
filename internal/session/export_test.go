package session

// Weight is how many bytes the stage's sessions weigh, by their own count.
func (s *Stage) Weight() int64 {
	return s.sessions.size.Load()
}
