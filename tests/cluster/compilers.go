package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	goVersionKey   = "go "             // in go.mod
	rustVersionKey = "rust-version = " // in Cargo.toml

	// versionLimit is for rustup, which may fetch a compiler to ask it.
	versionLimit = 5 * time.Minute
)

// checkGo looks for a Go that builds the tools. Asked in their folder, go
// answers with the version that it has fetched for them, where it may.
func (t *toolchain) checkGo() error {
	needed, err := versionNeededBy(t.source+"/go.mod", goVersionKey)
	if err != nil {
		return err
	}
	advice := fmt.Sprintf("install Go %s or newer, see https://go.dev/doc/install", needed)
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("no go is on root's PATH: %s", advice)
	}
	found, err := t.golang("env", "GOVERSION")
	if err != nil {
		return fmt.Errorf("go cannot be used as it is: %s: %w", advice, err)
	}
	if !atLeast(string(found), needed) {
		return fmt.Errorf("this go is %s: %s", strings.TrimSpace(string(found)), advice)
	}
	return nil
}

// checkImageCompilers looks for what the images are built with that a cluster
// with a node is there to run.
func checkImageCompilers(repository string) error {
	// They come together, and missing together one is enough to say so.
	rust := checkRust(repository, "cargo")
	if rust == nil {
		rust = checkRust(repository, "rustc")
	}
	problems := []error{rust}
	if _, err := exec.LookPath("cc"); err != nil {
		problems = append(problems, errors.New("no C compiler, which Rust links with, is on root's PATH as cc: apt-get install gcc libc6-dev"))
	}
	return errors.Join(problems...)
}

// checkRust asks one of Rust's programs for its version.
func checkRust(repository, program string) error {
	needed, err := versionNeededBy(repository+"/Cargo.toml", rustVersionKey)
	if err != nil {
		return err
	}
	advice := fmt.Sprintf("the images need Rust %s or newer, which rustup installs and updates, see https://rustup.rs", needed)
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("no %s is on root's PATH: %s", program, advice)
	}
	found, err := command{argv: []string{program, "--version"}, limit: versionLimit, dir: repository}.run(context.Background())
	if err != nil {
		return fmt.Errorf("%s cannot be used as it is: %s: %w", program, advice, err)
	}
	if !atLeast(string(found), needed) {
		return fmt.Errorf("this is %s: %s", strings.TrimSpace(string(found)), advice)
	}
	return nil
}

// versionNeededBy reads the line that begins with the key.
func versionNeededBy(path, key string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, key); found {
			return strings.Trim(strings.TrimSpace(value), `"`), nil
		}
	}
	return "", fmt.Errorf("%s has no line that begins with %q", path, key)
}

func atLeast(found, needed string) bool {
	return slices.Compare(versionIn(found), versionIn(needed)) >= 0
}

var dotted = regexp.MustCompile(`\d+(\.\d+)*`)

// versionIn gives the numbers of the first version in a text.
func versionIn(text string) []int {
	var numbers []int
	for digits := range strings.SplitSeq(dotted.FindString(text), ".") {
		// None at all, or more digits than a number has, count as nothing.
		number, _ := strconv.Atoi(digits)
		numbers = append(numbers, number)
	}
	return numbers
}
