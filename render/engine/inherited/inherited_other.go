//go:build !linux

package inherited

import "errors"

func init() { Closed = errors.New("not on this system") }
