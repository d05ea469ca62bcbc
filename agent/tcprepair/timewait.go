package tcprepair

func (s *State) removeTimeWait() error { return ErrInUse }
