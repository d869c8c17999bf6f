# The soak tests take minutes: `mix test --only soak`.
# No test is decided by the time it takes: this only ends what hangs.
ExUnit.start(exclude: [:soak], timeout: 300_000)
