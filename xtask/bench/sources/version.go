package main

import "jackfield.dev/jackfield"

func init() {
	jackfield.Export(jackfield.Plugin{Message: reply})
}

func main() {}

func reply(_ *jackfield.RequestContext, _ *jackfield.MessageEvent) (jackfield.Response, error) {
	return jackfield.ReplyText("VERSION"), nil
}
