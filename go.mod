module tokend

go 1.26
