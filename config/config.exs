import Config

# Read only when working on the library itself, never when it is a dependency. An application sets
# what it wants under `config :cybernetic, :wasm`; the defaults stand in Cybernetic.WASM.Config.

# A call of a test that names no deadline is not to meet one, however busy the machine is: what is tested is never the
# default, which is a shorter one.
#
# No test is to find what an earlier run has compiled: those that are about that have a folder of their own.
if config_env() == :test,
  do: config(:cybernetic_wasm, timeout: 600_000, artifacts: false)
