package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// bodySize is that of a usual push, in bytes.
const bodySize = 7700

// push returns the parts of a push's body around the number that makes it new.
func push() (head, tail string) {
	head = `{"ref":"refs/heads/main","before":"1111111111111111111111111111111111111111","after":"`
	tail = `","created":false,"deleted":false,"forced":false,"repository":{"id":1,"name":"shop","full_name":"acme/shop","owner":{"login":"acme"},"clone_url":"https://git.example.com/acme/shop.git"},"pusher":{"name":"ana"},"commits":[`
	for i := 0; len(head)+len(tail) < bodySize-300; i++ {
		if i > 0 {
			tail += ","
		}
		tail += fmt.Sprintf(`{"id":"%040d","message":"Change number %d of the service's configuration, with a reason","timestamp":"2026-11-23T10:00:00Z","author":{"name":"Ana","email":"ana@example.com"},"added":[],"removed":[],"modified":["services/shop/config-%d.yaml"]}`, i, i, i)
	}
	return head, tail + `]}`
}

// bodies returns what makes the body of a number. The parts are made once: the load shares the processors with what it loads.
func bodies() func(n int) []byte {
	head, tail := push()
	return func(n int) []byte { return []byte(head + fmt.Sprintf("%040x", n) + tail) }
}

func signature(b []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write(b)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// script makes wrk sign a new body for each request, with the HMAC of the libcrypto that wrk is linked to.
func script(path string, first int) string {
	head, tail := push()
	return `local ffi = require("ffi")
ffi.cdef[[
typedef struct evp_md_st EVP_MD;
const EVP_MD *EVP_sha256(void);
unsigned char *HMAC(const EVP_MD *md, const void *key, int key_len, const unsigned char *d, size_t n, unsigned char *out, unsigned int *len);
]]
local ok, crypto = pcall(ffi.load, "crypto")
if not ok then crypto = ffi.load("libcrypto.so.3") end
local key = "` + secret + `"
local head = [==[` + head + `]==]
local tail = [==[` + tail + `]==]
local out = ffi.new("unsigned char[32]")
local len = ffi.new("unsigned int[1]")
local hex = {}
for i = 0, 255 do hex[i] = string.format("%02x", i) end
local threads = 0
function setup(thread) thread:set("tid", threads); threads = threads + 1 end
local n = ` + strconv.Itoa(first) + `
local t = {}
function request()
  n = n + 1
  local body = head .. string.format("%08x%032x", tid + 1, n) .. tail
  crypto.HMAC(crypto.EVP_sha256(), key, #key, body, #body, out, len)
  for i = 0, 31 do t[i + 1] = hex[out[i]] end
  return "POST ` + path + ` HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: " ..
    tid .. "-" .. n .. "\r\nX-Hub-Signature-256: sha256=" .. table.concat(t) .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end
`
}

// wrkResult is what wrk saw.
type wrkResult struct {
	requests, failed int
	seconds          float64
	p99              time.Duration
}

// wrk loads an address with 64 connections.
func (b *bench) wrk(dir, url, path string, first int) (wrkResult, error) {
	var r wrkResult
	bin, err := exec.LookPath("wrk")
	if err != nil {
		return r, fmt.Errorf("%w (install wrk)", err)
	}
	lua := filepath.Join(dir, "load.lua")
	if err := os.WriteFile(lua, []byte(script(path, first)), 0o600); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.load+30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, "-t2", "-c64", "-d"+b.load.String(), "--latency", "-s", lua, url).CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return parseWrk(string(out))
}

func parseWrk(out string) (wrkResult, error) {
	var r wrkResult
	m := regexp.MustCompile(`(\d+) requests in ([\d.]+)(m?s)`).FindStringSubmatch(out)
	if m == nil {
		return r, fmt.Errorf("wrk said:\n%s", out)
	}
	r.requests, _ = strconv.Atoi(m[1])
	r.seconds, _ = strconv.ParseFloat(m[2], 64)
	if m := regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`).FindStringSubmatch(out); m != nil {
		r.failed, _ = strconv.Atoi(m[1])
	}
	if m := regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`).FindStringSubmatch(out); m != nil {
		r.p99, _ = time.ParseDuration(m[1] + m[2])
	}
	return r, nil
}

func (r wrkResult) rate() float64 { return float64(r.requests-r.failed) / r.seconds }

// send posts signed bodies first to first+n-1 over 64 connections, and returns when the first was answered.
func send(hooks string, first, n int) (time.Time, error) { return sendTo([]string{hooks}, first, n) }

// sendTo is send to several servers in turn.
func sendTo(hooks []string, first, n int) (time.Time, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var began time.Time
	body := bodies()
	err := inParallel(n, func(i int) error {
		_, err := post(client, hooks[i%len(hooks)], body(first+i))
		mu.Lock()
		defer mu.Unlock()
		if began.IsZero() {
			began = time.Now()
		}
		return err
	})
	return began, err
}

// inParallel calls do for 0 to n-1, up to 64 at once, and returns the first error.
func inParallel(n int, do func(i int) error) (failed error) {
	var mu sync.Mutex
	work := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range work {
				if err := do(i); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
					}
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	return failed
}

// post sends one signed push and returns the event's id.
func post(client *http.Client, hooks string, b []byte) (string, error) {
	var answer struct{ ID string }
	text, err := postAs(client, hooks, "push", b)
	if err != nil {
		return "", err
	}
	err = json.Unmarshal(text, &answer)
	return answer.ID, err
}

// postAs sends one signed event of a type and returns the answer.
func postAs(client *http.Client, hooks, kind string, b []byte) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, "http://"+hooks+"/hooks/github", bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Event", kind)
	req.Header.Set("X-Hub-Signature-256", signature(b))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("answer %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}
