# Errors end up in logs, in `MatchError`s and on the shell: one line, whatever they hold.
defimpl Inspect,
  for: [
    Cybernetic.WASM.ABIError,
    Cybernetic.WASM.CallError,
    Cybernetic.WASM.CancelledError,
    Cybernetic.WASM.DeniedError,
    Cybernetic.WASM.HTTPError,
    Cybernetic.WASM.HostError,
    Cybernetic.WASM.InternalError,
    Cybernetic.WASM.LimitError,
    Cybernetic.WASM.LinkError,
    Cybernetic.WASM.LoadError,
    Cybernetic.WASM.ManifestError,
    Cybernetic.WASM.PluginError,
    Cybernetic.WASM.StoreError,
    Cybernetic.WASM.TrapError
  ] do
  def inspect(error, _opts), do: Cybernetic.WASM.Shown.error(error)
end
