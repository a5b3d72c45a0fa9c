//go:build !linux

package main

import (
	"os"
	"runtime/debug"
)

// lockDown can do little where there is no Linux: a person may render there, and a hub should not.
func lockDown(bounds limits) (held, missing []string) {
	os.Clearenv()
	debug.SetMemoryLimit(int64(bounds.memoryBytes) / 4 * 3)
	return []string{}, []string{"descriptors", "rlimits", "no_new_privs", "landlock", "seccomp"}
}
