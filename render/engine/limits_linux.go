package main

import (
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"bellwether.dev/render/engine/inherited"
)

// layer is one of the things that hold a render that got out of hand. Each one holds without the others.
type layer struct {
	name string
	set  func() error
}

// lockDown gives up everything that a render does not need. It says which layers hold now, and which could not be set.
func lockDown(bounds limits) (held, missing []string) {
	held, missing = []string{}, []string{}
	for _, layer := range []layer{
		{"descriptors", forgetInherited},
		{"rlimits", bounds.setRlimits},
		{"no_new_privs", forbidNewPrivileges},
		{"landlock", forbidPaths},
		{"seccomp", forbidSystemCalls},
	} {
		if !leftOut[layer.name] && layer.set() == nil {
			held = append(held, layer.name)
		} else {
			missing = append(missing, layer.name)
		}
	}
	return held, missing
}

// forgetInherited tells how the descriptors went, and forgets the environment, which may hold secrets of the parent's.
func forgetInherited() error {
	os.Clearenv()
	return inherited.Closed
}

// setRlimits lets the collector work harder before memory is short. A render that needs more is told so by the watch;
// the hard limit is for one that takes it all at once.
func (l limits) setRlimits() error {
	debug.SetMemoryLimit(int64(l.memoryBytes) / 4 * 3)
	// Standard input, output and error, and two that Go's timers use.
	const descriptors = 8
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_DATA:   l.memoryBytes * 2,
		unix.RLIMIT_CORE:   0, // a core would hold what was rendered
		unix.RLIMIT_FSIZE:  0,
		unix.RLIMIT_NOFILE: descriptors,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// leftOut is empty, but in test builds.
var leftOut = map[string]bool{}

func forbidNewPrivileges() error {
	return onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}

// onAllThreads is for calls that change the calling thread only: Go moves its work between threads.
func onAllThreads(call, first, second, third uintptr) error {
	if _, _, failed := syscall.AllThreadsSyscall(call, first, second, third); failed != 0 {
		return failed
	}
	return nil
}
