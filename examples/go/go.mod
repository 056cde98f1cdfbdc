module libhci-example

go 1.19
