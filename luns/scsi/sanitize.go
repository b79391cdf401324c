package scsi

// mediumState is a stub for now.
type mediumState struct{}
