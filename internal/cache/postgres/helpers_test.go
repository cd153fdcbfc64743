package postgres_test

import "fluentd-perf/internal/cache/tier/tiertest"

// What these tests share with those of the other adapters.
type lines = tiertest.Log

var (
	newEntry    = tiertest.NewEntry
	tryRead     = tiertest.TryRead
	tryWrite    = tiertest.TryWrite
	tryStore    = tiertest.TryStore
	read        = tiertest.Read
	store       = tiertest.Store
	wantValue   = tiertest.WantValue
	wantNone    = tiertest.WantNone
	closeTier   = tiertest.Close
	works       = tiertest.Works
	worksWithin = tiertest.WorksWithin
	readNothing = tiertest.ReadNothing
	load        = tiertest.Load
	eventually  = tiertest.Eventually
	series      = tiertest.Series
	noise       = tiertest.Noise
)
