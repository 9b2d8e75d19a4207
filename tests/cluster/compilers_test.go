package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeProgram puts a program on the PATH that says this, and nothing else there.
func fakeProgram(t *testing.T, name, says string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho '" + says + "'\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func TestGoHasToBeThatOfTheModule(t *testing.T) {
	tools := &toolchain{source: t.TempDir()}
	write(t, filepath.Join(tools.source, "go.mod"), "module example\n\ngo 1.26.6\n\nrequire go.example/x v1.0.0\n")
	for says, enough := range map[string]bool{
		"go1.26.6": true, "go1.26.10 X:aliastypeparams": true, "go1.30.0": true, "devel go1.27-8a3f2c1": true,
		"go1.26.5": false, "go1.9": false, "go1.26rc2": false,
	} {
		fakeProgram(t, "go", says)
		err := tools.checkGo()
		if (err == nil) != enough {
			t.Errorf("%s: got %v", says, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "1.26.6") || !strings.Contains(err.Error(), "go.dev")) {
			t.Errorf("%s: %v does not say what is needed and where it is", says, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := tools.checkGo(); err == nil || !strings.Contains(err.Error(), "1.26.6") {
		t.Errorf("no Go: got %v", err)
	}
}

func TestRustHasToBeThatOfThePackage(t *testing.T) {
	repository := t.TempDir()
	write(t, filepath.Join(repository, "Cargo.toml"), "[package]\nname = \"example\"\nrust-version = \"1.95\"\n")
	for says, enough := range map[string]bool{
		"rustc 1.95.0 (59807616e 2026-04-14)": true, "rustc 1.100.0-nightly (1 2026-09-01)": true, "rustc 2.0.0": true,
		"rustc 1.94.1 (1 2026-03-01)": false, "rustc 1.63.0": false,
	} {
		fakeProgram(t, "rustc", says)
		err := checkRust(repository, "rustc")
		if (err == nil) != enough {
			t.Errorf("%s: got %v", says, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "1.95") || !strings.Contains(err.Error(), "rustup")) {
			t.Errorf("%s: %v does not say what is needed and how to get it", says, err)
		}
	}
	if err := checkRust(repository, "cargo"); err == nil || !strings.Contains(err.Error(), "cargo") || !strings.Contains(err.Error(), "1.95") {
		t.Errorf("no cargo: got %v", err)
	}
}

// The real files, whose form may change.
func TestVersionsThatAreNeededAreFound(t *testing.T) {
	for path, key := range map[string]string{"tools/go.mod": goVersionKey, "../../Cargo.toml": rustVersionKey} {
		if needed, err := versionNeededBy(path, key); err != nil || len(versionIn(needed)) < 2 {
			t.Errorf("%s: got %q, %v", path, needed, err)
		}
	}
}
