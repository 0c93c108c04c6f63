module kes/tests/compat

go 1.24
