defmodule Cybernetic.WASM.Native do
  @moduledoc false
  # The only door to Rust: stubs that the NIF library replaces when this module is loaded. Functions that may run a guest
  # come in two, one for a normal scheduler, which answers `:dirty` where it must not, and one for a dirty one.
  #
  # Where the library cannot be loaded, the module stays with its stubs, which say why: whoever calls one wants to know that,
  # and not that there is no such function.

  # The library is built after this module is compiled, so compiling must not load it.
  @compile {:autoload, false}
  @on_load :load_library

  @doc false
  def load_library do
    case :code.priv_dir(:cybernetic_wasm) do
      {:error, :bad_name} ->
        missing(
          "the application cybernetic_wasm has no folder here",
          "an escript or an archive holds no native library, a release or `mix run` has it"
        )

      priv ->
        load(:filename.join(priv, ~c"native/cybernetic_wasm"))
    end
  end

  defp load(path) do
    with true <- whole?(path),
         {:error, {reason, text}} when reason != :reload <- :erlang.load_nif(path, 0) do
      missing(to_string(text), advice(to_string(text), to_string(path)))
    else
      false -> missing("#{path}.so ends too early", "`mix compile --force` builds it again")
      _loaded -> :persistent_term.put(__MODULE__, :loaded)
    end
  end

  # The loader maps what an ELF file announces, and the VM dies where that is not there. The table of sections is the last of it:
  # see https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html.
  defp whole?(path) do
    with {:ok, file} <- :file.open(path ++ ~c".so", [:read, :raw, :binary]),
         {:ok, header} <- :file.read(file, 64),
         {:ok, size} <- :file.position(file, :eof),
         :ok <- :file.close(file),
         <<0x7F, "ELF", 2, 1, _to_offset::binary-size(34), offset::little-64,
           _to_size::binary-size(10), entry::little-16, count::little-16, _::binary>> <- header do
      offset + entry * count <= size
    else
      _not_there_or_of_another_kind -> true
    end
  end

  # A module that was loaded before is better than one without its library.
  defp missing(words, advice) do
    text = "the native library of Cybernetic.WASM cannot be loaded: #{words}; #{advice}"

    case :persistent_term.get(__MODULE__, nil) do
      :loaded -> {:error, text}
      _none -> :persistent_term.put(__MODULE__, text)
    end
  end

  defp advice(words, path) do
    cond do
      not Enum.any?([".so", ".dll"], &:filelib.is_regular(path <> &1)) ->
        "`mix compile` builds it, and a release takes it from the project that was compiled"

      words =~ "GLIBC" ->
        "it was built where the C library is newer: build it on the system that runs it, or on an older one"

      true ->
        "it is not whole, or was built for another system: `mix compile --force`, on a system like this one, builds it again"
    end
  end

  # Runtime
  def runtime_start(_settings), do: stub()
  def runtime_ceilings, do: stub()
  def runtime_stop, do: stub()
  def runtime_terminals, do: stub()
  def runtime_stats, do: stub()
  def runtime_clear_cache, do: stub()
  def runtime_compiles_in_process, do: stub()
  def runtime_no_artifacts, do: stub()
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
  def module_check(_module), do: stub()
  def module_guests(_module), do: stub()
  def module_facts(_module), do: stub()
  def module_keep(_module), do: stub()
  def module_source(_module), do: stub()
  def component_wit(_component), do: stub()
  def component_metadata(_component), do: stub()
  def component_resources(_component), do: stub()
  def wit_parse(_files, _world), do: stub()
  def digest(_bytes), do: stub()
  def digest_dirty(_bytes), do: stub()

  # Executions
  def execution_call(_module, _name, _args, _options, _scheduling), do: stub()
  def execution_call_dirty(_module, _name, _args, _options, _scheduling), do: stub()
  def execution_exchange(_module, _name, _passed, _options, _scheduling), do: stub()
  def execution_exchange_dirty(_module, _name, _passed, _options, _scheduling), do: stub()
  def abi_new(_abi), do: stub()
  def kernel_new(_config, _log_level, _most), do: stub()
  def execution_handle(_module, _asked, _options, _scheduling), do: stub()
  def execution_handle_dirty(_module, _asked, _options, _scheduling), do: stub()
  def execution_errand_done(_execution, _number, _came), do: stub()
  def execution_errand_done_dirty(_execution, _number, _came), do: stub()
  def execution_step(_execution), do: stub()
  def execution_step_dirty(_execution), do: stub()
  def execution_wake(_execution), do: stub()
  def execution_listen(_execution, _reference), do: stub()
  def execution_unlisten(_execution), do: stub()
  def execution_command(_execution, _call, _command), do: stub()
  def execution_command_dirty(_execution, _call, _command), do: stub()
  def execution_return(_execution, _call, _values), do: stub()
  def execution_return_dirty(_execution, _call, _values), do: stub()
  def execution_take_over(_execution, _call), do: stub()
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

  # Resources

  def resource_drop(_resource), do: stub()
  def resource_is_kept(_resource), do: stub()

  # Cancelling
  def cancel_new, do: stub()
  def cancel_now(_cancel, _reason), do: stub()
  def cancel_reason(_cancel), do: stub()

  # Live instances
  def instance_new(_module, _snapshottable, _sources, _budget, _options, _scheduling), do: stub()

  def instance_new_dirty(_module, _snapshottable, _sources, _budget, _options, _scheduling),
    do: stub()

  def instance_reset(_instance, _options), do: stub()
  def instance_reset_dirty(_instance, _options), do: stub()
  def instance_close(_instance), do: stub()
  def instance_finish(_instance), do: stub()
  def instance_finish_with_caller(_instance), do: stub()
  def instance_usage(_instance), do: stub()
  def instance_state(_instance), do: stub()
  def instance_survive_traps(_instance), do: stub()
  def instance_reserve(_instance), do: stub()
  def instance_set_host(_instance, _member, _term), do: stub()
  def instance_link(_instance, _member, _module, _sources, _options), do: stub()
  def instance_call(_instance, _member, _name, _args, _options, _scheduling), do: stub()
  def instance_call_dirty(_instance, _member, _name, _args, _options, _scheduling), do: stub()
  def instance_exchange(_instance, _member, _name, _passed, _options, _scheduling), do: stub()

  def instance_exchange_dirty(_instance, _member, _name, _passed, _options, _scheduling),
    do: stub()

  def instance_handle(_instance, _member, _asked, _options, _scheduling), do: stub()
  def instance_handle_dirty(_instance, _member, _asked, _options, _scheduling), do: stub()
  def instance_call_ref(_instance, _member, _ref, _args, _options, _scheduling), do: stub()
  def instance_call_ref_dirty(_instance, _member, _ref, _args, _options, _scheduling), do: stub()
  def instance_read(_instance, _member, _memory, _offset, _length), do: stub()
  def instance_read_dirty(_instance, _member, _memory, _offset, _length), do: stub()
  def instance_write(_instance, _member, _memory, _offset, _bytes), do: stub()
  def instance_write_dirty(_instance, _member, _memory, _offset, _bytes), do: stub()
  def instance_access(_instance, _member, _access, _options), do: stub()
  def instance_access_dirty(_instance, _member, _access, _options), do: stub()
  def instance_held_by(_owner, _reference), do: stub()
  def instance_snapshot(_instance, _hook, _options), do: stub()
  def instance_fork(_instance), do: stub()
  def instance_fork_anew(_instance, _hook, _engine, _options), do: stub()

  # Folders
  def folder_ours(_path, _make), do: stub()
  def folder_lock(_path), do: stub()
  def folder_unlock(_lock), do: stub()

  # Manifests
  def manifest_parse(_text), do: stub()

  # JSON
  def json_read(_text, _deepest), do: stub()
  def json_read_dirty(_text, _deepest), do: stub()
  def json_write(_term, _most, _deepest), do: stub()
  def json_write_dirty(_term, _most, _deepest), do: stub()

  # WASI
  def wasi_functions, do: stub()
  def wasi_interfaces, do: stub()

  # Network
  def network_rules(_rules), do: stub()
  def network_check(_rule_lists, _dns, _protocol, _name, _ip, _port), do: stub()

  defp stub do
    text = :persistent_term.get(__MODULE__, "the native library of Cybernetic.WASM is not loaded")
    :erlang.nif_error(%RuntimeError{message: text})
  end
end
