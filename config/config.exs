import Config

# Read only when working on the library itself, never when it is a dependency. An application sets
# what it wants under `config :cybernetic, :wasm`; the defaults stand in Cybernetic.WASM.Config.
