package inherited

import (
	"math"
	"syscall"
)

const closeRange = 436 // the same on all architectures

func init() {
	if _, _, failed := syscall.RawSyscall(closeRange, 3, math.MaxUint32, 0); failed != 0 {
		Closed = failed
	}
}
