// Command cluster starts a real Kubernetes on a bare Linux machine, for tests.
//
// Nothing in it is a stand-in: etcd, the API server, the controllers, the
// scheduler, the kubelet, containerd, kube-proxy, CoreDNS, metrics-server and
// Helm are built from their own modules (tools/, build.go) and run with the
// flags in parts.go and the files in templates/.
//
// A cluster lives in one folder (cluster.go) and below one process (node.go).
// That first process has a process namespace of its own, and, where there is
// a node, a mount and a network namespace too: the bridge, the firewall
// rules, the mounts, the ports and the state in /run and /var/lib are the
// node's alone. The machine sees one cable to it (network.go) and reaches the
// API server, pods and Services over that. When the first process ends, the
// kernel takes everything else away, so `down` cannot forget a thing (down.go).
//
// `up` looks at each part and starts those that are not healthy, each as soon
// as what it needs is there (up.go, steps.go, supervise.go). Processes are
// known by pid, start time and boot, never by name (process.go).
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}
