// The command image-copy copies one image to another place under a signature policy, as `skopeo copy` of the same
// library does. Debian 12 builds its skopeo without the policy sigstoreSigned, and skopeo's own module is not in every
// proxy.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/transports/alltransports"
	"go.podman.io/image/v5/types"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	policy := flag.String("policy", "", "the policy, a file of containers-policy.json(5)")
	system := &types.SystemContext{}
	flag.StringVar(&system.RegistriesDirPath, "registries.d", "", "a folder of containers-registries.d(5)")
	flag.StringVar(&system.DockerCertPath, "cert-dir", "", "a folder with authorities of registries")
	flag.StringVar(&system.AuthFilePath, "authfile", "", "a file with credentials")
	version := flag.Bool("version", false, "print the version of the library")
	flag.Parse()
	if *version {
		return printVersion()
	}

	read, err := signature.NewPolicyFromFile(*policy)
	if err != nil {
		return err
	}
	verdict, err := signature.NewPolicyContext(read)
	if err != nil {
		return err
	}
	from, err := alltransports.ParseImageName(flag.Arg(0))
	if err != nil {
		return err
	}
	to, err := alltransports.ParseImageName(flag.Arg(1))
	if err != nil {
		return err
	}
	options := &copy.Options{SourceCtx: system, RemoveSignatures: true}
	_, err = copy.Image(context.Background(), verdict, to, from, options)
	return err
}

func printVersion() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("the program does not know what it was built from")
	}
	for _, module := range info.Deps {
		if module.Path == "go.podman.io/image/v5" {
			fmt.Printf("image-copy: %s %s\n", module.Path, module.Version)
		}
	}
	return nil
}
