//go:build escapes

package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is in test builds only. A render of the kind `escape` tries each way out, past what the libraries would say,
// and gives a line for each: its name, and what the kernel answered.

func init() {
	kinds["escape"] = tryEscapes
	flag.Func("leave-out", "a layer that is not set, to see what the others hold", func(name string) error {
		leftOut[name] = true
		return nil
	})
}

func tryEscapes(request, *repository) (done, *failure) {
	var report strings.Builder
	for _, name := range slices.Sorted(maps.Keys(escapes)) {
		answer := "WENT THROUGH"
		if err := escapes[name](); err != nil {
			answer = err.Error()
		}
		fmt.Fprintf(&report, "%s: %s\n", name, answer)
	}
	return done{Documents: report.String()}, nil
}

var escapes = map[string]func() error{
	"read a file":          func() error { return opened(unix.Open("/etc/passwd", unix.O_RDONLY, 0)) },
	"read own memory":      func() error { return opened(unix.Open("/proc/self/mem", unix.O_RDWR, 0)) },
	"list a folder":        func() error { return opened(unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)) },
	"write a file":         func() error { return opened(unix.Open("escaped", unix.O_WRONLY|unix.O_CREAT, 0o600)) },
	"open in another way":  func() error { return opened(unix.Openat2(unix.AT_FDCWD, "/etc/passwd", &unix.OpenHow{})) },
	"make a folder":        func() error { return unix.Mkdir("escaped-folder", 0o700) },
	"remove a file":        func() error { return unix.Unlink("not-there") },
	"rename a file":        func() error { return unix.Rename("not-there", "elsewhere") },
	"make a link":          func() error { return unix.Symlink("/etc/passwd", "escaped-link") },
	"change the folder":    func() error { return unix.Chdir(".") },
	"change the root":      func() error { return unix.Chroot("/") },
	"unmount":              func() error { return unix.Unmount("not-there", 0) },
	"make a TCP socket":    func() error { return opened(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) },
	"make a UDP socket":    func() error { return opened(unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)) },
	"make a local socket":  func() error { return opened(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)) },
	"speak to the kernel":  func() error { return opened(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)) },
	"connect":              tryConnect,
	"make a pipe":          func() error { return unix.Pipe2(make([]int, 2), 0) },
	"run a program":        tryProgram,
	"run from memory":      tryMemoryProgram,
	"fork":                 tryFork,
	"fork in a new way":    tryClone3,
	"make a namespace":     func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"trace a process":      func() error { return call(unix.SYS_PTRACE, unix.PTRACE_CONT, 1, 0) },
	"read another process": tryReadProcess,
	"signal a process":     func() error { return unix.Kill(1, 0) },
	"signal a thread":      func() error { return unix.Tgkill(1, 1, 0) },
	"watch a process":      func() error { return opened(unix.PidfdOpen(1, 0)) },
	"map code":             tryMapCode,
	"make memory code":     tryMakeCode,
	"start an io_uring":    func() error { return call(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	"load a BPF program":   func() error { return call(unix.SYS_BPF, 0, 0, 0) },
	"count events":         func() error { return call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
	"handle page faults":   func() error { return call(unix.SYS_USERFAULTFD, 0, 0, 0) },
	"add a key":            func() error { return call(unix.SYS_ADD_KEY, 0, 0, 0) },
	"raise a limit":        func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}) },
	"be dumped":            func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"control a device":     func() error { return call(unix.SYS_IOCTL, 0, unix.TIOCINQ, 0) },
	"read the environment": tryEnvironment,
	"use a left-over file": func() error { return opened(unix.Write(3, []byte("escaped"))) },
}

func opened(_ int, err error) error { return err }

func call(number, first, second, third uintptr) error {
	if _, _, failed := unix.RawSyscall(number, first, second, third); failed != 0 {
		return failed
	}
	return nil
}

func tryConnect() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(socket, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
	if err == unix.ECONNREFUSED {
		return nil // it got as far as the port
	}
	return err
}

// tryProgram has no arguments that the kernel can read, which it sees once it has opened the program.
func tryProgram() error {
	program := []byte("/bin/true\x00")
	return call(unix.SYS_EXECVE, uintptr(unsafe.Pointer(&program[0])), 1, 0)
}

func tryMemoryProgram() error {
	if _, err := unix.MemfdCreate("escaped", 0); err != nil {
		return err
	}
	return nil
}

func tryFork() error {
	child, _, failed := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if failed != 0 {
		return failed
	}
	if child == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func tryClone3() error {
	arguments := [8]uint64{4: uint64(unix.SIGCHLD)}
	child, _, failed := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&arguments)), unsafe.Sizeof(arguments), 0)
	if failed != 0 {
		return failed
	}
	if child == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func tryReadProcess() error {
	_, err := unix.ProcessVMReadv(1, []unix.Iovec{}, []unix.RemoteIovec{}, 0)
	return err
}

func tryMapCode() error {
	_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	return err
}

func tryMakeCode() error {
	memory, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	return unix.Mprotect(memory, unix.PROT_READ|unix.PROT_EXEC)
}

func tryEnvironment() error {
	if len(os.Environ()) == 0 {
		return errors.New("it is empty")
	}
	return nil
}
