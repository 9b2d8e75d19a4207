package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	manifestsStep = "manifests"
	pauseStep     = "pause image"
)

// request is what the user asked `up` for.
type request struct {
	name  string
	mode  Mode
	audit bool
	nodes int
	older string // minor version of Kubernetes, when it is not the newest
}

// up starts the cluster, or those parts of it that are not healthy.
func up(wanted request) error {
	log := newProgress(os.Stdout)
	if err := checkPrivileges(); err != nil {
		return err
	}
	if err := makeStateRoot(); err != nil {
		return err
	}
	release, err := lock(lockPath(wanted.name), "with cluster "+wanted.name)
	if err != nil {
		return err
	}
	defer release()

	ctx := context.Background()
	c, err := load(wanted.name)
	fresh := errors.Is(err, errNoCluster)
	if err != nil && !fresh {
		return err
	}
	if !fresh {
		if c.Mode != wanted.mode {
			return fmt.Errorf("cluster %s is there in mode %s: take it down first with `cluster down --name %s`, or give this one another --name", c.Name, c.Mode, c.Name)
		}
		if c.Older != wanted.older {
			return fmt.Errorf("cluster %s is there with Kubernetes %s: take it down first with `cluster down --name %s`, or give this one another --name", c.Name, cmp.Or(c.Older, minorOf(kubernetesVersion)), c.Name)
		}
		if c.satisfies(wanted) && c.healthy(ctx) == nil {
			log.step("cluster %s is up already", c.Name)
			return nil
		}
	}

	tools, err := newToolchain()
	if err != nil {
		return err
	}
	if err := checkNeeds(log, wanted, tools, c); err != nil {
		return err
	}
	needed := neededBy(wanted.mode, wanted.older)
	if err := tools.build(log, needed...); err != nil {
		return err
	}
	if fresh {
		c, err = settle(wanted)
	} else {
		err = c.extend(wanted)
	}
	if err != nil {
		return err
	}
	if err := tools.link(c.path("bin"), needed...); err != nil {
		return err
	}
	if err := c.bringUp(ctx, log); err != nil {
		return fmt.Errorf("cluster %s did not start: %w", c.Name, err)
	}
	log.step("cluster %s is up; export KUBECONFIG=%s", c.Name, c.kubeconfig("admin"))
	return nil
}

func (c *Cluster) satisfies(wanted request) bool {
	return (c.Audit || !wanted.audit) && c.Nodes >= wanted.nodes
}

// settle makes the folder of a new cluster. Addresses and ports are chosen by
// one command at a time, as they look free until something listens there.
func settle(wanted request) (*Cluster, error) {
	release, err := lockDir(stateRoot(), "choosing addresses")
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := newCluster(wanted.name, wanted.mode)
	if err != nil {
		return nil, err
	}
	c.Audit, c.Nodes, c.Older = wanted.audit, wanted.nodes, wanted.older
	if err := c.writePKI(); err != nil {
		return nil, err
	}
	if err := c.writeConfig(); err != nil {
		return nil, err
	}
	// Written last: from here on the cluster counts as made.
	return c, c.save()
}

// extend adds what was asked for to a cluster that is there.
func (c *Cluster) extend(wanted request) error {
	auditAdded := wanted.audit && !c.Audit
	c.Audit = c.Audit || wanted.audit
	c.Nodes = max(c.Nodes, wanted.nodes)
	if err := c.writeConfig(); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	if auditAdded {
		return c.end("apiserver")
	}
	return nil
}

// end kills a part and waits until it is gone.
func (c *Cluster) end(name string) error {
	process, err := c.running(name)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return process.kill(endLimit)
}

func (c *Cluster) bringUp(ctx context.Context, log *progress) error {
	init, err := c.running("init")
	if errors.Is(err, errGone) {
		if err := c.clearRemains(); err != nil {
			return err
		}
		init, err = c.startInit()
	}
	if err != nil {
		return err
	}
	if c.Mode == Full {
		if err := c.connectNode(init); err != nil {
			return err
		}
	}
	var steps []step
	for _, p := range c.parts() {
		steps = append(steps, step{p.name, p.after, func(ctx context.Context) (string, error) {
			started, err := c.ensure(ctx, init, p)
			if err != nil || !started {
				return "", err
			}
			return p.name + " is healthy", nil
		}})
	}
	if err := runSteps(ctx, log, append(steps, c.finishingSteps(init)...)); err != nil {
		return c.withEnded(init, err)
	}
	return nil
}

// clearRemains removes what outlives the first process and would be taken for
// that of the next one: /run, of which no machine keeps anything when it
// restarts, and the cable, which the kernel takes away only some time later.
func (c *Cluster) clearRemains() error {
	if c.Mode == Full {
		if err := c.freeCable(); err != nil {
			return err
		}
	}
	return os.RemoveAll(c.nodePath("/run"))
}

// finishingSteps are what turns running processes into a cluster.
func (c *Cluster) finishingSteps(init Process) []step {
	account := step{"default service account", []string{"controller-manager"}, func(ctx context.Context) (string, error) {
		return "", c.awaitAnswer(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
	}}
	if c.Mode == ControlPlane {
		return []step{account}
	}
	manifests := step{manifestsStep, []string{"apiserver"}, func(ctx context.Context) (string, error) {
		return "", c.apply(ctx, string(c.Mode)+".yaml")
	}}
	nodes := step{"nodes", []string{"controller-manager", manifestsStep}, c.openNodes}
	if c.Mode == Scale {
		return []step{account, manifests, nodes}
	}
	pause := step{pauseStep, []string{"containerd"}, func(ctx context.Context) (string, error) {
		return "", c.loadPause(ctx, init)
	}}
	metrics := step{"metrics API", []string{"metrics-server"}, func(ctx context.Context) (string, error) {
		return "", c.awaitAnswer(ctx, "/apis/metrics.k8s.io/v1beta1")
	}}
	return []step{account, manifests, nodes, pause, metrics}
}

// awaitAnswer waits until the API server has something at a path.
func (c *Cluster) awaitAnswer(ctx context.Context, path string) error {
	return until(ctx, startLimit, func(ctx context.Context) error {
		_, err := c.fetch(ctx, "https://"+c.at("apiserver")+path)
		return err
	})
}

// healthy says what is wrong with a cluster that should be up.
func (c *Cluster) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, s := range c.status(ctx) {
		if s.Problem != "" {
			return fmt.Errorf("%s: %s", s.Part, s.Problem)
		}
	}
	if c.Mode == ControlPlane {
		return nil
	}
	return c.nodesReady(ctx)
}
