package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// openNodes waits until pods can be placed on each node. One that is cordoned
// would stay so for ever: whoever cordoned it may have been killed before the
// end of a test.
func (c *Cluster) openNodes(ctx context.Context) (string, error) {
	line := c.NodeName() + " is ready"
	if c.Mode == Scale {
		line = fmt.Sprintf("%d fake nodes are ready", c.Nodes)
	}
	err := until(ctx, startLimit, func(ctx context.Context) error {
		err := c.nodesReady(ctx)
		var closed cordoned
		if !errors.As(err, &closed) {
			return err
		}
		line += ", and no longer cordoned: " + strings.Join(closed, ", ")
		return c.kubectl(ctx, nil, append([]string{"uncordon"}, closed...)...)
	})
	return line, err
}

// nodesReady says which node pods cannot be placed on.
func (c *Cluster) nodesReady(ctx context.Context) error {
	data, err := c.fetch(ctx, "https://"+c.at("apiserver")+"/api/v1/nodes")
	if err != nil {
		return err
	}
	wanted := c.fakeNodes()
	if c.Mode == Full {
		wanted = []string{c.NodeName()}
	}
	return readyAmong(data, wanted)
}

// cordoned are nodes that are ready, and that were told to take no pods.
type cordoned []string

func (nodes cordoned) Error() string {
	return "no pods can be placed on nodes that are cordoned: " + strings.Join(nodes, ", ")
}

func readyAmong(data []byte, wanted []string) error {
	var list struct{ Items []node }
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	registered := map[string]node{}
	for _, n := range list.Items {
		registered[n.Metadata.Name] = n
	}
	var closed cordoned
	for _, name := range wanted {
		n, found := registered[name]
		if !found {
			return fmt.Errorf("node %s is not ready: it has not registered", name)
		}
		if problem := n.problem(); problem != "" {
			return fmt.Errorf("node %s is not ready: %s", name, problem)
		}
		if n.Spec.Unschedulable {
			closed = append(closed, name)
		}
	}
	if len(closed) > 0 {
		return closed
	}
	return nil
}

// node is what readiness is told from.
type node struct {
	Metadata struct{ Name string }
	Spec     struct {
		Unschedulable bool
		Taints        []struct{ Key string }
	}
	Status struct {
		Conditions []struct{ Type, Status, Message string }
	}
}

// problem says what keeps the node from being ready, if anything does.
func (n node) problem() string {
	for _, taint := range n.Spec.Taints {
		if taint.Key == "node.kubernetes.io/not-ready" {
			return "it still has the taint " + taint.Key
		}
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status == "True" {
			return ""
		}
		return "it says " + condition.Message
	}
	return "it has reported no Ready condition"
}
