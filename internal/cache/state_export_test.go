package cache

// MemoryState is a State without a directory.
func MemoryState(shared []byte) *State {
	s, err := OpenState("", shared)
	if err != nil {
		panic(err)
	}
	return s
}
