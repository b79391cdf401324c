package main

import "testing"

func TestCPUList(t *testing.T) {
	for _, test := range []struct {
		cpus []int
		want string
	}{
		{nil, ""},
		{[]int{3}, "3"},
		{[]int{0, 1}, "0-1"},
		{[]int{0, 2, 3, 4, 64}, "0,2-4,64"},
	} {
		if got := cpuList(test.cpus); got != test.want {
			t.Errorf("%v: %q, want %q", test.cpus, got, test.want)
		}
	}
}
