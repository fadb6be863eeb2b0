//go:build wasm

// Package wit_runtime is what generated bindings need at run time: handles of resources, and memory that the host
// reads or writes.
package wit_runtime

import (
	"runtime"
	"unsafe"
)

// Handle is the number of a resource. It is 0 after the resource was dropped or given away.
type Handle struct {
	number int32
}

// MakeHandle returns a handle with this number.
func MakeHandle(number int32) *Handle {
	handle := &Handle{}
	handle.Set(number)
	return handle
}

// Use returns the number. It panics if the resource was dropped or given away.
func (handle *Handle) Use() int32 {
	if handle.number == 0 {
		panic("a resource was used after it was dropped or given away")
	}
	return handle.number
}

// Take returns the number and empties the handle. It panics if the resource was dropped or given away.
func (handle *Handle) Take() int32 {
	number := handle.Use()
	handle.number = 0
	return number
}

// TakeOrNil returns the number, or 0, and empties the handle.
func (handle *Handle) TakeOrNil() int32 {
	number := handle.number
	handle.number = 0
	return number
}

// Set fills an empty handle.
func (handle *Handle) Set(number int32) {
	if number == 0 || handle.number != 0 {
		panic("a handle is set once, to a number other than 0")
	}
	handle.number = number
}

// Allocate returns memory that stays until the pinner is unpinned; nil if size is 0.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	memory := allocate(size, align)
	pinner.Pin(memory)
	return memory
}

// allocate returns memory without pointers. Go aligns it to its size, and to at least 8 bytes if it has more.
func allocate(size, align uintptr) unsafe.Pointer {
	if align <= 4 && size < 8 {
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, (size+3)/4)))
	}
	return unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
}

const (
	// chunkBytes is the memory for many small parameters: a page of its own for each would make an event in a fresh
	// sandbox slower.
	chunkBytes = 2048
	// chunkedBytesMax is the size of the largest parameter in a chunk.
	chunkedBytesMax = 256
	// earlyBytes is what the adapter of WASI needs for itself before Go's heap exists, and some more.
	earlyBytes = 2 * 65536
)

var (
	heapExists bool
	early      [earlyBytes / 8]uint64
	earlyUsed  uintptr

	chunk     unsafe.Pointer
	chunkUsed uintptr
	// received keeps the memory that the host has filled alive until the bindings have references to it.
	received []unsafe.Pointer
)

func init() {
	heapExists = true
	received = make([]unsafe.Pointer, 0, 32)
	chunk = allocate(chunkBytes, 8)
}

// Unpin ends the life of memory that the host has filled, as far as nothing else refers to it. The bindings call it
// when they have converted all parameters of an event.
func Unpin() {
	clear(received)
	received = received[:0]
}

// While the clock is paused, the adapter of WASI returns the time that it has returned last.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func setClockPaused(paused bool)

// While a goroutine is pinned, no garbage collection begins.
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// allocateForHost allocates while a call of the host is in progress, in which a component must not call imports. A
// garbage collection reads both clocks, and growing the heap may read the monotonic one. None is in progress that began
// before, because `jackfield build` makes each garbage collection run to its end (gcstoptheworld).
func allocateForHost(size, align uintptr) unsafe.Pointer {
	procPin()
	setClockPaused(true)
	memory := allocate(size, align)
	setClockPaused(false)
	procUnpin()
	return memory
}

// cabiRealloc returns memory for the host. The host calls it for each string and list that it passes to Go, but also
// while Go's runtime starts, before its heap exists.
//
//go:wasmexport cabi_realloc
func cabiRealloc(oldMemory unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	if oldMemory != nil || oldSize != 0 {
		panic("the host never resizes memory that it has received")
	}
	if !heapExists {
		return allocateEarly(newSize, align)
	}
	if newSize <= chunkedBytesMax {
		used := alignUp(chunkUsed, align)
		if used+newSize > chunkBytes {
			keep(chunk)
			chunk = allocateForHost(chunkBytes, 8)
			used = 0
		}
		chunkUsed = used + newSize
		return unsafe.Add(chunk, used)
	}
	memory := allocateForHost(newSize, align)
	keep(memory)
	return memory
}

// keep adds to received. Growing it is an allocation like those of allocateForHost.
func keep(memory unsafe.Pointer) {
	if len(received) == cap(received) {
		procPin()
		setClockPaused(true)
		received = append(received, memory)
		setClockPaused(false)
		procUnpin()
		return
	}
	received = append(received, memory)
}

func allocateEarly(size, align uintptr) unsafe.Pointer {
	used := alignUp(earlyUsed, align)
	if used+size > earlyBytes {
		panic("too much memory was needed before Go's heap exists")
	}
	earlyUsed = used + size
	return unsafe.Add(unsafe.Pointer(&early), used)
}

func alignUp(offset, align uintptr) uintptr {
	return (offset + align - 1) &^ (align - 1)
}
