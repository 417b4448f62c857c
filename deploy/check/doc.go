// Package check judges what deploy/ ships with the programs that will read it, or their own code:
// Kubernetes' API server, Compose, BuildKit and HAProxy. It adds what this project promises beyond that.
// It is a module of its own, so that its dependencies are not the server's.
package check
