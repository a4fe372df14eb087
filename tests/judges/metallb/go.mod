// MetalLB's manifests and chart, which the tests of packaging turn into Clarion's and back. Nothing
// of it is compiled.
module clarion.example/judges/metallb

go 1.25.0

require go.universe.tf/metallb v0.16.1
