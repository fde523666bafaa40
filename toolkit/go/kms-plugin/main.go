// The command kms-plugin is a plugin of Kubernetes' KMS v2 API for tests: upstream's server of that API, with a key
// that anybody may know. Upstream's own mock is no package of its module, and needs a token of PKCS #11.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"k8s.io/kms/pkg/service"
)

// keyID names the only key.
const keyID = "for-tests"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "", "the Unix socket; one that begins with @ has no file")
	version := flag.Bool("version", false, "print the version of the library")
	flag.Parse()
	if *version {
		return printVersion()
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	return service.NewGRPCService(*listen, 10*time.Second, key{aead}).ListenAndServe()
}

func printVersion() error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("compiled without modules")
	}
	for _, module := range info.Deps {
		if module.Path == "k8s.io/kms" {
			fmt.Printf("kms-plugin: %s %s\n", module.Path, module.Version)
			return nil
		}
	}
	return errors.New("compiled without the library")
}

// key encrypts with AES-GCM; a ciphertext begins with its nonce.
type key struct{ aead cipher.AEAD }

func (k key) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: keyID}, nil
}

func (k key) Encrypt(_ context.Context, uid string, data []byte) (*service.EncryptResponse, error) {
	nonce := make([]byte, k.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return &service.EncryptResponse{Ciphertext: k.aead.Seal(nonce, nonce, data, nil), KeyID: keyID}, nil
}

func (k key) Decrypt(_ context.Context, uid string, request *service.DecryptRequest) ([]byte, error) {
	size := k.aead.NonceSize()
	if request.KeyID != keyID || len(request.Ciphertext) < size {
		return nil, fmt.Errorf("%s: not encrypted by this plugin", uid)
	}
	return k.aead.Open(nil, request.Ciphertext[:size], request.Ciphertext[size:], nil)
}
