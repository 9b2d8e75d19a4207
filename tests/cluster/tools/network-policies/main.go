// Command network-policies makes the node of the test cluster keep to
// NetworkPolicies: it writes a table of nftables rules from them and writes it
// anew after each change of a policy, a pod or a namespace.
//
// It holds back what the node forwards, so traffic from and to the node itself
// always passes, as policies have it: the kubelet's probes, the API server, and
// the cluster's DNS, which runs beside the node's other parts.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	applyLimit = 10 * time.Second // for the kernel to take the table
	applyPause = time.Second      // after it was refused
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the cluster, and who to be")
	podRange := flag.String("pod-range", "", "the addresses that pods get")
	health := flag.String("health-address", "", "where /healthz tells whether the rules are those of the policies")
	flag.Parse()
	log.Fatal(run(context.Background(), *kubeconfig, *podRange, *health))
}

func run(ctx context.Context, kubeconfig, podRange, health string) error {
	pods, err := netip.ParsePrefix(podRange)
	if err != nil {
		return fmt.Errorf("-pod-range: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	e := &enforcer{podRange: pods, changed: make(chan struct{}, 1)}
	failed := make(chan error, 1)
	go func() { failed <- http.ListenAndServe(health, e) }()
	if err := e.watch(ctx, informers.NewSharedInformerFactory(client, 0)); err != nil {
		return err
	}
	for {
		if err := e.apply(ctx); err != nil {
			log.Print(err)
			time.AfterFunc(applyPause, e.wake)
		}
		select {
		case <-e.changed:
		case err := <-failed:
			return err
		}
	}
}

// enforcer keeps the table of rules as the policies want it.
type enforcer struct {
	podRange netip.Prefix
	watched  informers.SharedInformerFactory
	changed  chan struct{} // holds one message: that there was any change
	applied  string
	inSync   atomic.Bool
}

// watch returns once everything that is there has been read.
func (e *enforcer) watch(ctx context.Context, factory informers.SharedInformerFactory) error {
	e.watched = factory
	for _, informer := range []cache.SharedIndexInformer{
		factory.Networking().V1().NetworkPolicies().Informer(),
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(),
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { e.wake() },
			UpdateFunc: func(any, any) { e.wake() },
			DeleteFunc: func(any) { e.wake() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("could not read every %s", kind)
		}
	}
	return nil
}

func (e *enforcer) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// apply brings the kernel's table up to date.
func (e *enforcer) apply(ctx context.Context) error {
	wanted, err := e.snapshot()
	if err != nil {
		return err
	}
	rules := wanted.ruleset()
	if rules == e.applied {
		e.inSync.Store(true)
		return nil
	}
	e.inSync.Store(false)
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	// All of the table or nothing: no packet meets half of it.
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("the kernel does not take the rules: %w: %s\n%s", err, bytes.TrimSpace(output), rules)
	}
	e.applied = rules
	e.inSync.Store(true)
	return nil
}

func (e *enforcer) snapshot() (snapshot, error) {
	policies, policiesErr := e.watched.Networking().V1().NetworkPolicies().Lister().List(labels.Everything())
	pods, podsErr := e.watched.Core().V1().Pods().Lister().List(labels.Everything())
	namespaces, namespacesErr := e.watched.Core().V1().Namespaces().Lister().List(labels.Everything())
	if err := errors.Join(policiesErr, podsErr, namespacesErr); err != nil {
		return snapshot{}, err
	}
	return newSnapshot(policies, pods, namespaces, e.podRange), nil
}

// ServeHTTP says whether the kernel has the rules that were wanted last.
func (e *enforcer) ServeHTTP(answer http.ResponseWriter, _ *http.Request) {
	if !e.inSync.Load() {
		http.Error(answer, "the rules are not those of the policies", http.StatusServiceUnavailable)
	}
}
