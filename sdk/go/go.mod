module jackfield.dev/jackfield

go 1.26
