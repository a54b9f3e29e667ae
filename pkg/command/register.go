package command

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// register is a file that holds the children that run: a line "+ pgid boot ticks key" when one begins and "- pgid" when
// its group is gone. The ticks are the kernel's clock when the line was written, which costs less than to ask when the
// child started: whoever had the number then is our child, and a process that got it later started later. The file is not
// synced: it must outlive this process, and no child outlives the machine.
type register struct {
	instance string
	boot     string // names this boot of the machine
	name     string
	log      *slog.Logger

	mu     sync.Mutex
	file   *os.File
	alive  map[int]string // lines by process group
	size   int
	failed bool // the last write did; warned of once
}

// maxRegister is the size beyond which the file is written anew with what is alive.
const maxRegister = 256 << 10

func openRegister(dir string, log *slog.Logger) (*register, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	instance, err := instanceOf(filepath.Join(dir, "instance"))
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "processes")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &register{instance: instance, boot: bootID(), name: name, log: log, file: f, alive: map[int]string{}}, nil
}

// instanceOf returns the directory's random name, making it once.
func instanceOf(name string) (string, error) {
	text, err := os.ReadFile(name)
	if id := string(bytes.TrimSpace(text)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	b := make([]byte, 16)
	rand.Read(b) // never fails since Go 1.24
	id := hex.EncodeToString(b)
	return id, os.WriteFile(name, []byte(id+"\n"), 0o600)
}

func (r *register) began(pgid int, key string) {
	line := fmt.Sprintf("+ %d %s %d %q\n", pgid, r.boot, bootTicks(), key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive[pgid] = line
	r.write(line)
}

func (r *register) ended(pgid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alive, pgid)
	if r.size > maxRegister {
		r.compact()
		return
	}
	r.write("- " + strconv.Itoa(pgid) + "\n")
}

// write adds a line. Where that fails a survivor is left to the marker in its environment.
func (r *register) write(line string) {
	n, err := r.file.WriteString(line)
	r.size += n
	r.note(err)
}

func (r *register) note(err error) {
	if err != nil && !r.failed {
		r.log.Warn("the register of child processes can't be written; what survives a crash is found by its environment only", "error", err)
	}
	r.failed = err != nil
}

// compact writes the file anew with what is alive. Whoever reads it meanwhile finds the old or the new one.
func (r *register) compact() {
	if len(r.alive) == 0 {
		err := r.file.Truncate(0)
		if err == nil {
			r.size = 0
		}
		r.note(err)
		return
	}
	var text strings.Builder
	for _, line := range r.alive {
		text.WriteString(line)
	}
	next, err := os.OpenFile(r.name+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		r.note(err)
		return
	}
	_, err = next.WriteString(text.String())
	if err == nil {
		err = os.Rename(next.Name(), r.name)
	}
	if err != nil {
		r.note(errors.Join(err, next.Close()))
		return
	}
	_ = r.file.Close() // it is gone from the directory
	r.file, r.size = next, text.Len()
	r.note(nil)
}

func (r *register) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}

// registered is a child that the file says has not ended.
type registered struct {
	boot  string
	ticks int64 // when it ran for certain
	key   string
}

// is reports whether the process that has the child's number now, and started then, is the child.
func (c registered) is(boot string, started int64) bool {
	return boot != "" && c.boot == boot && started > 0 && started <= c.ticks
}

// running returns them by process group. Lines that make no sense are passed over: the file is not synced.
func (r *register) running() (map[int]registered, error) {
	text, err := os.ReadFile(r.name)
	if err != nil {
		return nil, err
	}
	alive := map[int]registered{}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
		if len(f) < 2 {
			continue
		}
		pgid, err := strconv.Atoi(f[1])
		switch {
		case err != nil || pgid <= 1:
		case f[0] == "+" && len(f) == 5:
			ticks, _ := strconv.ParseInt(f[3], 10, 64) // 0 is nobody's
			key, _ := strconv.Unquote(f[4])
			alive[pgid] = registered{f[2], ticks, key}
		case f[0] == "-":
			delete(alive, pgid)
		}
	}
	return alive, nil
}

// forget empties the file.
func (r *register) forget() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = 0
	return r.file.Truncate(0)
}
