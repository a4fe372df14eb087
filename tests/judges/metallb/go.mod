// MetalLB: its manifests and chart, which the tests of packaging turn into Clarion's and back, and its
// programs, whose place Clarion takes in the lab.
module clarion.example/judges/metallb

go 1.25.0

require go.universe.tf/metallb v0.16.1
