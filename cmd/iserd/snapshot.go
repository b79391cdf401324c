package main

import (
	"io/fs"
	"sync"

	"github.com/iserd/iserd/config"
)

// snapshot is a config.Host that remembers what was read of the machine. Once it
// is sealed it answers from memory what it knows: a change through the API must
// not bring edits of the files into force that nobody has asked to reload.
type snapshot struct {
	config.Host

	mu     sync.Mutex
	sealed bool
	files  map[string]readFile
	stats  map[string]fs.FileInfo
	dirs   map[string][]fs.DirEntry
	env    map[string]variable
}

type readFile struct {
	data []byte
	info fs.FileInfo
}

type variable struct {
	value string
	ok    bool
}

func newSnapshot(h config.Host) *snapshot {
	return &snapshot{
		Host: h, files: make(map[string]readFile), stats: make(map[string]fs.FileInfo),
		dirs: make(map[string][]fs.DirEntry), env: make(map[string]variable),
	}
}

// seal ends the recording.
func (s *snapshot) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
}

// Getenv implements config.Host, as all that follow.
func (s *snapshot) Getenv(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.env[name]; ok {
		return v.value, v.ok
	}
	value, ok := s.Host.Getenv(name)
	if !s.sealed {
		s.env[name] = variable{value, ok}
	}
	return value, ok
}

func (s *snapshot) ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.files[name]; ok {
		return f.data, f.info, nil
	}
	data, info, err := s.Host.ReadFile(name, limit)
	if err == nil && !s.sealed {
		s.files[name] = readFile{data, info}
	}
	return data, info, err
}

func (s *snapshot) ReadDir(name string) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.dirs[name]; ok {
		return d, nil
	}
	d, err := s.Host.ReadDir(name)
	if err == nil && !s.sealed {
		s.dirs[name] = d
	}
	return d, err
}

// Stat answers from memory for what was read; of others, such as the stores, the
// present state counts.
func (s *snapshot) Stat(name string) (fs.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, file := s.files[name]
	_, dir := s.dirs[name]
	if info := s.stats[name]; info != nil && (file || dir) {
		return info, nil
	}
	info, err := s.Host.Stat(name)
	if err == nil && !s.sealed {
		s.stats[name] = info
	}
	return info, err
}
