// frr-k8s: its CustomResourceDefinitions, which judge the objects that the back end writes. Nothing
// of it is compiled.
module clarion.example/judges/frrk8s

go 1.25.0

require github.com/metallb/frr-k8s v0.0.25
