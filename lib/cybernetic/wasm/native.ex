defmodule Cybernetic.WASM.Native do
  @moduledoc false
  # The only door to Rust: stubs that the NIF library replaces when this module is loaded. Functions that may run a guest
  # come in two, one for a normal scheduler, which answers `:dirty` where it must not, and one for a dirty one.

  # The library is built after this module is compiled, so compiling must not load it.
  @compile {:autoload, false}
  @on_load :load_library

  @doc false
  def load_library do
    path = :filename.join(:code.priv_dir(:cybernetic_wasm), ~c"native/cybernetic_wasm")

    case :erlang.load_nif(path, 0) do
      :ok -> :ok
      {:error, {:reload, _text}} -> :ok
      {:error, {_reason, text}} -> {:error, text}
    end
  end

  # Runtime
  def runtime_start(_settings), do: stub()
  def runtime_stop, do: stub()
  def runtime_terminals, do: stub()
  def runtime_stats, do: stub()
  def runtime_clear_cache, do: stub()
  def runtime_compiles_in_process, do: stub()
  def runtime_take_notices, do: stub()
  def runtime_build, do: stub()
  def runtime_keep_limits(_limits), do: stub()
  def runtime_ping, do: stub()
  def runtime_ping_dirty, do: stub()

  # Modules
  def module_load(_source, _engine, _budget), do: stub()
  def module_load_dirty(_source, _engine, _budget), do: stub()
  def module_handle(_module), do: stub()
  def module_handle_dirty(_module), do: stub()
  def module_facts(_module), do: stub()

  # Executions
  def execution_call(_module, _name, _args, _options, _scheduling), do: stub()
  def execution_call_dirty(_module, _name, _args, _options, _scheduling), do: stub()
  def execution_step(_execution), do: stub()
  def execution_step_dirty(_execution), do: stub()
  def execution_listen(_execution, _reference), do: stub()
  def execution_unlisten(_execution), do: stub()
  def execution_command(_execution, _call, _command), do: stub()
  def execution_command_dirty(_execution, _call, _command), do: stub()
  def execution_return(_execution, _call, _values), do: stub()
  def execution_return_dirty(_execution, _call, _values), do: stub()
  def execution_emit(_execution, _call, _bytes), do: stub()
  def execution_emit_dirty(_execution, _call, _bytes), do: stub()
  def execution_take_output(_execution, _streams), do: stub()
  def execution_take_output_dirty(_execution, _streams), do: stub()
  def execution_give_input(_execution, _piece), do: stub()
  def execution_give_input_dirty(_execution, _piece), do: stub()
  def execution_host(_execution, _member), do: stub()
  def execution_abandon(_execution), do: stub()
  def execution_tally(_execution), do: stub()
  def execution_time_left(_execution), do: stub()

  # Cancelling
  def cancel_new, do: stub()
  def cancel_now(_cancel, _reason), do: stub()
  def cancel_reason(_cancel), do: stub()

  # Live instances
  def instance_new(_module, _snapshottable, _options, _scheduling), do: stub()
  def instance_new_dirty(_module, _snapshottable, _options, _scheduling), do: stub()
  def instance_reset(_instance, _options), do: stub()
  def instance_reset_dirty(_instance, _options), do: stub()
  def instance_close(_instance), do: stub()
  def instance_state(_instance), do: stub()
  def instance_survive_traps(_instance), do: stub()
  def instance_reserve(_instance), do: stub()
  def instance_set_host(_instance, _member, _term), do: stub()
  def instance_link(_instance, _member, _module, _sources, _options), do: stub()
  def instance_call(_instance, _member, _name, _args, _options, _scheduling), do: stub()
  def instance_call_dirty(_instance, _member, _name, _args, _options, _scheduling), do: stub()
  def instance_read(_instance, _member, _memory, _offset, _length), do: stub()
  def instance_read_dirty(_instance, _member, _memory, _offset, _length), do: stub()
  def instance_write(_instance, _member, _memory, _offset, _bytes), do: stub()
  def instance_write_dirty(_instance, _member, _memory, _offset, _bytes), do: stub()
  def instance_access(_instance, _member, _access, _options), do: stub()
  def instance_snapshot(_instance, _options), do: stub()
  def instance_fork(_instance), do: stub()
  def instance_keep_fork(_instance, _uses, _module), do: stub()

  # Manifests
  def manifest_parse(_text), do: stub()

  # WASI
  def wasi_functions, do: stub()

  # Network
  def network_rules(_rules), do: stub()
  def network_check(_rule_lists, _dns, _protocol, _name, _ip, _port), do: stub()

  defp stub, do: :erlang.nif_error(:not_loaded)
end
