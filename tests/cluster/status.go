package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"text/tabwriter"
)

// partStatus is how one part is doing; Problem is empty when it is healthy.
type partStatus struct {
	Part    string `json:"part"`
	PID     int    `json:"pid,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// status asks all parts at once.
func (c *Cluster) status(ctx context.Context) []partStatus {
	parts := append([]part{{name: "init"}}, c.parts()...)
	statuses := make([]partStatus, len(parts))
	var asking sync.WaitGroup
	for i, p := range parts {
		asking.Go(func() {
			statuses[i].Part = p.name
			process, err := c.running(p.name)
			if err == nil {
				statuses[i].PID = process.PID
				if p.health != "" {
					err = c.probe(ctx, p)
				}
			}
			if err != nil {
				statuses[i].Problem = err.Error()
			}
		})
	}
	asking.Wait()
	return statuses
}

func (c *Cluster) statusCommand(arguments []string) error {
	flags := flag.NewFlagSet("status", flag.ContinueOnError)
	output := flags.String("o", "", "")
	if _, err := parse(flags, arguments); err != nil {
		return err
	}
	parts := c.status(context.Background())
	sick := 0
	for _, p := range parts {
		if p.Problem != "" {
			sick++
		}
	}
	if *output == "json" {
		err := json.NewEncoder(os.Stdout).Encode(struct {
			*Cluster
			Healthy bool         `json:"healthy"`
			Parts   []partStatus `json:"parts"`
		}{c, sick == 0, parts})
		if err != nil {
			return err
		}
	} else {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "PART\tPID\tHEALTH")
		for _, p := range parts {
			health := p.Problem
			if health == "" {
				health = "healthy"
			}
			fmt.Fprintf(table, "%s\t%d\t%s\n", p.Part, p.PID, health)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	if sick > 0 {
		return fmt.Errorf("%d of the %d parts of cluster %s are not healthy; `cluster up --mode %s --name %s` mends that", sick, len(parts), c.Name, c.Mode, c.Name)
	}
	return nil
}
