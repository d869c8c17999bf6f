# The soak tests take minutes: `mix test --only soak`.
# No test is decided by the time it takes: both of these only end what hangs.
ExUnit.start(exclude: [:soak], assert_receive_timeout: 300_000, timeout: 600_000)
