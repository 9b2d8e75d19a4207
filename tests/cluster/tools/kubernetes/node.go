//go:build !control_plane

package main

import (
	"context"

	"github.com/spf13/cobra"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// What only a cluster with nodes runs; older versions are built without.
func init() {
	programs["kube-proxy"] = server(proxy.NewProxyCommand)
	programs["kube-scheduler"] = server(func() *cobra.Command { return scheduler.NewSchedulerCommand() })
	programs["kubelet"] = server(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })
}
