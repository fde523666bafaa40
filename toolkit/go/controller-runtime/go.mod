// Pins controller-runtime, whose own tests run against patched Kubernetes on the shim (`cargo xtask test clients`).
module sluice.invalid/controller-runtime

go 1.26.0

require sigs.k8s.io/controller-runtime v0.25.2
