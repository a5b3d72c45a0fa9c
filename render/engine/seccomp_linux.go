package main

import (
	"errors"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allowedCalls is what Go's runtime needs to compute, and to read and write the pipes. There is no call among them that
// opens anything.
var allowedCalls = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
	// memory
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE,
	// threads
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETTID, unix.SYS_GETPID,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	// signals: Go interrupts its own threads
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	// time
	unix.SYS_CLOCK_GETTIME, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2,
	unix.SYS_GETRANDOM,
}

// forbidSystemCalls lets the kernel refuse everything else with "operation not permitted", which libraries can take.
func forbidSystemCalls() error {
	filter, err := callFilter()
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	foreign, _, failed := unix.Syscall(unix.SYS_SECCOMP,
		unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if failed != 0 {
		return failed
	}
	if foreign != 0 {
		return errors.New("a thread has a filter that another one has not")
	}
	return nil
}

// Where the kernel puts what a filter looks at: struct seccomp_data.
const (
	callNumber   = 0
	architecture = 4
	arguments    = 16
)

// firstForeignCall is where the numbers of another table begin, that amd64 has for programs with short pointers.
const firstForeignCall = 0x40000000

func callFilter() ([]unix.SockFilter, error) {
	ours := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if ours == 0 {
		return nil, errors.New("there is no filter for this architecture")
	}
	filter := []unix.SockFilter{
		load(architecture),
		unless(unix.BPF_JEQ, ours, 1),
		skip(1),
		give(unix.SECCOMP_RET_KILL_PROCESS),
		load(callNumber),
		unless(unix.BPF_JGE, firstForeignCall, 1),
		refuse(),
	}
	for _, call := range allowedCalls {
		filter = append(filter, unless(unix.BPF_JEQ, call, 1), allow())
	}
	for _, call := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT} {
		filter = append(filter, refuseIf(call, 2, unix.BPF_JSET, unix.PROT_EXEC)...)
	}
	filter = append(filter, allowIf(unix.SYS_CLONE, 0, unix.BPF_JSET, unix.CLONE_THREAD)...)
	filter = append(filter, allowIf(unix.SYS_TGKILL, 0, unix.BPF_JEQ, uint32(os.Getpid()))...)
	return append(filter, refuse()), nil
}

// allowIf allows a call when one of its arguments passes the test, and refuses it otherwise.
func allowIf(call uint32, argument uint32, test uint16, value uint32) []unix.SockFilter {
	return []unix.SockFilter{
		unless(unix.BPF_JEQ, call, 4),
		load(arguments + 8*argument),
		unless(test, value, 1),
		allow(),
		refuse(),
	}
}

// refuseIf is the other way round.
func refuseIf(call uint32, argument uint32, test uint16, value uint32) []unix.SockFilter {
	return []unix.SockFilter{
		unless(unix.BPF_JEQ, call, 4),
		load(arguments + 8*argument),
		unless(test, value, 1),
		refuse(),
		allow(),
	}
}

// load takes a word of the call's data. Both architectures have the low half of an argument first.
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// unless leaves out the next instructions when the test fails.
func unless(test uint16, value uint32, leaveOut uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: value, Jf: leaveOut}
}

func skip(instructions uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: instructions}
}

func give(verdict uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: verdict}
}

func allow() unix.SockFilter { return give(unix.SECCOMP_RET_ALLOW) }

func refuse() unix.SockFilter { return give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)) }
