module kes/tests/hostile

go 1.24
