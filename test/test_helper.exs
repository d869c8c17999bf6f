# The soak tests take minutes: `mix test --only soak`.
ExUnit.start(exclude: [:soak])
