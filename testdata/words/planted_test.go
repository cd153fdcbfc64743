package planted

import "errors"

var errText = errors.New("heard in a test")

func TestCrowd() {}
