package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const usage = `usage: cluster COMMAND

  up [--mode full|control-plane|scale] [--name NAME] [--audit] [--nodes N]
     [--kubernetes VERSION]
                             start a cluster, or what is not healthy in it
  down [--name NAME | --all] take it away, with all that it made
  status [-o json]           its parts, and whether they are healthy
  load IMAGE.tar…            put images (docker-archive) on the node
  registry                   where a registry has to listen for the node to pull from it
  kubectl ARGS…              the real kubectl, on this cluster
  helm ARGS…                 the real helm, on this cluster
  kubeconfig                 the path of the administrator's kubeconfig
  env                        shell lines that point other programs to it
  audit-log                  the path of the API audit log (up --audit)
  kill PART [--signal SIG]   send a signal to a part; KILL if not said
  restart PART               kill a part, start it, wait until it is healthy
  bin PROGRAM                the path of a built program; builds it if need be
  build [--mode MODE] [PROGRAM…]
                             build what a mode runs, or these, or else all, ahead
                             of time; start nothing

Each of those on a cluster takes --name NAME before its own arguments; without it,
the cluster is the one in CLUSTER_NAME, else the one named full. A cluster that up
is told no name for is named after its mode. An older Kubernetes is there for the mode
control-plane; without --kubernetes it is the one in CACHEDSERVICE_KUBERNETES, else
the newest.
`

var errUsage = errors.New("see `cluster help`")

func run(arguments []string) error {
	if len(arguments) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no command was given")
	}
	command, arguments := arguments[0], arguments[1:]
	switch command {
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	case initCommand:
		return runInit(arguments[0])
	case "up":
		return upCommand(arguments)
	case "down":
		return downCommand(arguments)
	case "build":
		return buildCommand(arguments)
	case "bin":
		return binCommand(arguments)
	}
	name, arguments, err := takeName(arguments)
	if err != nil {
		return err
	}
	if command == "helm" {
		return helmCommand(name, arguments)
	}
	onCluster, known := map[string]func(*Cluster, []string) error{
		"status":     (*Cluster).statusCommand,
		"load":       (*Cluster).loadCommand,
		"kubectl":    (*Cluster).kubectlCommand,
		"kubeconfig": (*Cluster).kubeconfigCommand,
		"env":        (*Cluster).envCommand,
		"audit-log":  (*Cluster).auditLogCommand,
		"registry":   (*Cluster).registryCommand,
		"kill":       (*Cluster).killCommand,
		"restart":    (*Cluster).restartCommand,
	}[command]
	if !known {
		return fmt.Errorf("there is no command %q; %w", command, errUsage)
	}
	c, err := load(orUsual(name))
	if err != nil {
		return err
	}
	return onCluster(c, arguments)
}

// takeName takes --name from the front, and a -- that ends what is meant for
// this program; all else belongs to the command. The name is empty when
// neither --name nor CLUSTER_NAME gives one.
func takeName(arguments []string) (name string, rest []string, err error) {
	name = os.Getenv("CLUSTER_NAME")
	if len(arguments) > 0 {
		if value, found := strings.CutPrefix(arguments[0], "--name="); found {
			name, arguments = value, arguments[1:]
		} else if arguments[0] == "--name" {
			if len(arguments) < 2 {
				return "", nil, errors.New("--name needs a name")
			}
			name, arguments = arguments[1], arguments[2:]
		}
	}
	if len(arguments) > 0 && arguments[0] == "--" {
		arguments = arguments[1:]
	}
	return name, arguments, nil
}

// orUsual gives the name of the cluster that is meant when none is said.
func orUsual(name string) string {
	if name == "" {
		return string(Full)
	}
	return name
}

// parse reads flags, before and behind as many other arguments as there are
// names for them.
func parse(flags *flag.FlagSet, arguments []string, names ...string) ([]string, error) {
	flags.SetOutput(io.Discard)
	var values []string
	for {
		if err := flags.Parse(arguments); err != nil {
			return nil, fmt.Errorf("%w; %w", err, errUsage)
		}
		if flags.NArg() == 0 {
			break
		}
		values = append(values, flags.Arg(0))
		arguments = flags.Args()[1:]
	}
	switch {
	case len(values) > len(names):
		return nil, fmt.Errorf("%q is more than `cluster %s` takes; %w", values[len(names)], flags.Name(), errUsage)
	case len(values) < len(names):
		return nil, fmt.Errorf("`cluster %s` needs a %s; %w", flags.Name(), names[len(values)], errUsage)
	}
	return values, nil
}

func upCommand(arguments []string) error {
	wanted, err := upRequest(arguments)
	if err != nil {
		return err
	}
	return up(wanted)
}

func upRequest(arguments []string) (request, error) {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	mode := flags.String("mode", string(Full), "")
	name := flags.String("name", "", "")
	audit := flags.Bool("audit", false, "")
	nodes := flags.Int("nodes", 0, "")
	kubernetes := flags.String("kubernetes", os.Getenv("CACHEDSERVICE_KUBERNETES"), "")
	if _, err := parse(flags, arguments); err != nil {
		return request{}, err
	}
	older, err := olderVersion(*kubernetes)
	if err != nil {
		return request{}, err
	}
	wanted := request{name: *name, mode: Mode(*mode), audit: *audit, nodes: *nodes, older: older}
	switch {
	case !wanted.mode.known():
		return request{}, unknownMode(wanted.mode)
	case wanted.mode != Scale && wanted.nodes != 0:
		return request{}, fmt.Errorf("--nodes counts fake nodes, which only --mode %s has", Scale)
	case wanted.older != "" && wanted.mode != ControlPlane:
		return request{}, fmt.Errorf("Kubernetes %s is there for --mode %s alone", wanted.older, ControlPlane)
	case wanted.nodes < 0 || wanted.nodes > 1000:
		return request{}, fmt.Errorf("--nodes %d is not between 1 and 1000", wanted.nodes)
	}
	if wanted.name == "" {
		wanted.name = *mode
	}
	if wanted.mode == Scale && wanted.nodes == 0 {
		wanted.nodes = 10
	}
	if !validName.MatchString(wanted.name) {
		return request{}, fmt.Errorf("%q cannot be the name of a cluster", wanted.name)
	}
	return wanted, nil
}

// olderVersion takes the minor version of Kubernetes that is asked for. It gives
// none for the newest, which is also meant when none is said.
func olderVersion(asked string) (string, error) {
	newest := minorOf(kubernetesVersion)
	if asked == "" || asked == newest {
		return "", nil
	}
	if _, known := olderKubernetes[asked]; !known {
		known := append(slices.Sorted(maps.Keys(olderKubernetes)), newest)
		return "", fmt.Errorf("there is no Kubernetes %q; there are %s", asked, strings.Join(known, ", "))
	}
	return asked, nil
}

func unknownMode(mode Mode) error {
	return fmt.Errorf("there is no mode %q; use %s, %s or %s", mode, Full, ControlPlane, Scale)
}

func downCommand(arguments []string) error {
	flags := flag.NewFlagSet("down", flag.ContinueOnError)
	name := flags.String("name", "", "")
	all := flags.Bool("all", false, "")
	if _, err := parse(flags, arguments); err != nil {
		return err
	}
	if *all {
		return downAll()
	}
	if *name == "" {
		*name = os.Getenv("CLUSTER_NAME")
	}
	return down(orUsual(*name))
}

func buildCommand(arguments []string) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	mode := flags.String("mode", "", "")
	if err := flags.Parse(arguments); err != nil {
		return fmt.Errorf("%w; %w", err, errUsage)
	}
	names, err := programsToBuild(Mode(*mode), flags.Args())
	if err != nil {
		return err
	}
	tools, err := newToolchain()
	if err != nil {
		return err
	}
	log := newProgress(os.Stdout)
	if err := tools.build(log, names...); err != nil {
		return err
	}
	log.step("built, in %s: %s", tools.dir, strings.Join(names, " "))
	return nil
}

// programsToBuild are those named, and those that the mode runs; all when
// neither is said.
func programsToBuild(mode Mode, named []string) ([]string, error) {
	if mode == "" && len(named) == 0 {
		var all []string
		for _, p := range programs {
			all = append(all, p.name)
		}
		return all, nil
	}
	for _, name := range named {
		if _, known := find(name); !known {
			return nil, fmt.Errorf("%q is no program that this builds", name)
		}
	}
	if mode == "" {
		return named, nil
	}
	if !mode.known() {
		return nil, unknownMode(mode)
	}
	return append(neededBy(mode, ""), named...), nil
}

func binCommand(arguments []string) error {
	names, err := parse(flag.NewFlagSet("bin", flag.ContinueOnError), arguments, "program")
	if err != nil {
		return err
	}
	path, err := builtProgram(names[0])
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// builtProgram gives the path of a program, which is built if need be; of
// that it tells on standard error, as the output is the caller's.
func builtProgram(name string) (string, error) {
	names, err := programsToBuild("", []string{name})
	if err != nil {
		return "", err
	}
	tools, err := newToolchain()
	if err != nil {
		return "", err
	}
	return tools.path(name), tools.build(newProgress(os.Stderr), names...)
}

func helmCommand(name string, arguments []string) error {
	environment, err := helmEnvironment(name)
	if err != nil {
		return err
	}
	helm, err := builtProgram("helm")
	if err != nil {
		return err
	}
	return become(helm, "helm", arguments, environment)
}

// helmEnvironment points helm to the named cluster, or else to the usual one.
// When that is not there, helm gets none: charts are linted and rendered
// without, and what does need a cluster is not to find the user's own.
func helmEnvironment(name string) ([]string, error) {
	c, err := load(orUsual(name))
	if name == "" && errors.Is(err, errNoCluster) {
		fmt.Fprintf(os.Stderr, "cluster: helm runs without a cluster, as there is none named %s (start it with `cluster up`)\n", Full)
		return environmentWith(os.DevNull), nil
	}
	if err != nil {
		return nil, err
	}
	return c.environment(), nil
}

func (c *Cluster) kubectlCommand(arguments []string) error {
	return become(c.bin("kubectl"), "kubectl", arguments, c.environment())
}

// become replaces this process, so that input, output, signals and exit code
// are the program's own.
func become(path, name string, arguments, environment []string) error {
	err := unix.Exec(path, append([]string{name}, arguments...), environment)
	return fmt.Errorf("run %s: %w", path, err)
}

func (c *Cluster) environment() []string { return environmentWith(c.kubeconfig("admin")) }

// environmentWith is this program's environment, but for the cluster that
// kubectl and helm are to act on. What names another is left out, not only
// written over: of two entries of one name, a Go program takes the first.
func environmentWith(kubeconfig string) []string {
	others := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"KUBECONFIG", "KUBERNETES_MASTER", "KUBERNETES_SERVICE_HOST"}, name) ||
			strings.HasPrefix(name, "HELM_KUBE")
	})
	return append(others, "KUBECONFIG="+kubeconfig)
}

func (c *Cluster) kubeconfigCommand([]string) error {
	fmt.Println(c.kubeconfig("admin"))
	return nil
}

func (c *Cluster) envCommand([]string) error {
	fmt.Printf("export KUBECONFIG=%s\nexport CLUSTER_NAME=%s\n", c.kubeconfig("admin"), c.Name)
	return nil
}

func (c *Cluster) auditLogCommand([]string) error {
	if !c.Audit {
		return fmt.Errorf("cluster %s keeps no audit log: turn it on with `cluster up --audit --mode %s --name %s`", c.Name, c.Mode, c.Name)
	}
	fmt.Println(c.auditLog())
	return nil
}

func (c *Cluster) registryCommand([]string) error {
	if c.Mode != Full {
		return fmt.Errorf("cluster %s has no node to pull images", c.Name)
	}
	fmt.Println(c.Registry())
	return nil
}

func (c *Cluster) loadCommand(paths []string) error {
	if c.Mode != Full {
		return fmt.Errorf("cluster %s has no node to load images on", c.Name)
	}
	if len(paths) == 0 {
		return fmt.Errorf("`cluster load` takes image archives; %w", errUsage)
	}
	init, err := c.running("init")
	if err != nil {
		return fmt.Errorf("cluster %s is not up: %w", c.Name, err)
	}
	for _, path := range paths {
		archive, err := os.Open(path)
		if err != nil {
			return err
		}
		err = c.loadImage(context.Background(), init, archive)
		_ = archive.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
