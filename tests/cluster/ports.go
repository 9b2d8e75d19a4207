package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkPorts names who took the ports of parts that are down. A new cluster
// chooses free ones, and a node has a network to itself: only a cluster
// without one, which keeps its ports, meets others on the machine's loopback.
func (c *Cluster) checkPorts() error {
	if c.Mode == Full {
		return nil
	}
	var problems []error
	for _, p := range c.parts() {
		if _, err := c.running(p.name); err == nil {
			continue
		}
		for _, port := range slices.Sorted(maps.Keys(c.Ports)) {
			// etcd has two of them.
			if strings.HasPrefix(port, p.name) && !isFree(c.at(port)) {
				problems = append(problems, fmt.Errorf("%s listens on %s, which %s has taken: stop that, or take the cluster down with `cluster down --name %s`, and it gets other ports",
					p.name, c.at(port), holderOfPort(c.Ports[port]), c.Name))
			}
		}
	}
	return errors.Join(problems...)
}

func isFree(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}

// holderOfPort names the process that has a port of the loopback.
func holderOfPort(port int) string {
	const unknown = "another program"
	sockets := socketsOn(port)
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return unknown
	}
	for _, file := range files {
		// Processes and their files come and go meanwhile.
		target, err := os.Readlink(file)
		if err != nil || !slices.Contains(sockets, target) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil {
			return describe(pid)
		}
	}
	return unknown
}

// socketsOn lists the sockets that keep others from a port of the loopback, as
// the files of their processes are called.
func socketsOn(port int) []string {
	var sockets []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		// A kernel without IPv6 has no second one.
		text, _ := os.ReadFile(table)
		for line := range strings.Lines(string(text)) {
			// 0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 …
			fields := strings.Fields(line)
			if len(fields) < 10 {
				continue
			}
			address, hex, _ := strings.Cut(fields[1], ":")
			local := strings.HasSuffix(address, "0100007F") || strings.Trim(address, "0") == ""
			if number, err := strconv.ParseUint(hex, 16, 16); err == nil && int(number) == port && local {
				sockets = append(sockets, "socket:["+fields[9]+"]")
			}
		}
	}
	return sockets
}
