// Package planted has names and texts that TestWords must find. A comment may say door.
package planted

import (
	"errors"
	"log/slog"
)

type HTTPDoor struct{ ear_2 int }

func (d *HTTPDoor) floorBoarding(overland, onboard int) (debtLocked error) {
	slog.Warn("the tier is left alone", "answers", d.ear_2)
	return errors.New("the answer came, not Heard: " + what)
}

const what = `nobody's verdict`
