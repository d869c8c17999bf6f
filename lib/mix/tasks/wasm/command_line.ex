defmodule Mix.Tasks.Wasm.CommandLine do
  @moduledoc false
  # What the wasm tasks have in common: options, starting the library, loading a file, and how a task
  # ends. Results go to standard output and nothing else does, so that a shell can use them.

  alias Cybernetic.WASM.{
    CallError,
    Config,
    Error,
    JSON,
    LimitError,
    LinkError,
    LoadError,
    Module,
    Notices,
    Runtime,
    Sandbox,
    Shown,
    Startup
  }

  alias Mix.Tasks.Wasm.{TextFormat, UsageError}

  @type error :: Error.t() | UsageError.t()

  @doc """
  Splits a command line into options, as a map, and arguments.

  Options may stand anywhere before `--`. A negative number is an argument. A switch with `:keep` has a
  list of what it was given. What the switch `:arg` is given stands among the arguments, as
  `{:arg, text}`; it may look like an option.
  """
  @spec parse([String.t()], keyword) ::
          {:ok, map, [String.t() | {:arg, String.t()}]} | :help | {:error, UsageError.t()}
  def parse(argv, switches) do
    argv
    |> Enum.map(&as_typed/1)
    |> parse([strict: [help: :boolean] ++ switches, aliases: [h: :help]], %{}, [])
  end

  defp parse([], _config, %{help: true}, _arguments), do: :help
  defp parse([], _config, options, arguments), do: {:ok, options, Enum.reverse(arguments)}

  defp parse(["--" | rest], config, options, arguments),
    do: parse([], config, options, Enum.reverse(rest, arguments))

  defp parse([word | _rest] = argv, config, options, arguments) do
    case next(argv, config) do
      {:argument, argument, rest} ->
        parse(rest, config, options, [argument | arguments])

      {:ok, name, value, rest} ->
        parse(rest, config, put(options, name, value, config), arguments)

      {:invalid, name, value, _rest} ->
        usage_error(invalid(name, value, config[:strict]))

      {:undefined, name, _value, _rest} ->
        usage_error(unknown(word, name, config[:strict]))
    end
  end

  defp next([word | rest] = argv, config) do
    cond do
      argument?(word) ->
        {:argument, word, rest}

      # OptionParser would take what looks like an option for one.
      word == "--arg" and rest != [] and config[:strict][:arg] != nil ->
        {:argument, {:arg, hd(rest)}, tl(rest)}

      true ->
        with {:ok, :arg, text, rest} <- OptionParser.next(argv, config),
             do: {:argument, {:arg, text}, rest}
    end
  end

  defp put(options, name, value, config) do
    if :keep in List.wrap(config[:strict][name]),
      do: Map.update(options, name, [value], &(&1 ++ [value])),
      else: Map.put(options, name, value)
  end

  # OptionParser knows -5 as a number, but not -.5, -inf and -nan.
  defp argument?("-"), do: true
  defp argument?("-" <> rest), do: rest =~ ~r/^(\.?[0-9]|inf|nan)/
  defp argument?(_word), do: true

  defp invalid(name, nil, _switches), do: "the option #{name} needs a value"

  defp invalid(name, value, switches) do
    whole? = Enum.any?(switches, fn {key, kind} -> switch(key) == name and kind == :integer end)
    "the option #{name} takes #{if whole?, do: "a whole number", else: "no value"}, got: #{value}"
  end

  defp switch(key), do: "--" <> String.replace(to_string(key), "_", "-")

  defp unknown(word, name, switches) do
    name = if String.starts_with?(word, "--"), do: name, else: word
    known = for {key, _} <- switches, do: switch(key)
    behind = if switches[:arg], do: "; behind -- it is an argument"
    "unknown option #{name}; known are: #{Enum.join(known, ", ")}#{behind}"
  end

  @doc """
  Text from the shell, an argument or a variable's value, as it was typed. In a locale without UTF-8 the VM takes each of its
  bytes for a character.
  """
  @spec as_typed(String.t()) :: String.t()
  def as_typed(text) do
    with :latin1 <- :file.native_name_encoding(),
         bytes when is_binary(bytes) <- :unicode.characters_to_binary(text, :utf8, :latin1),
         true <- String.valid?(bytes) do
      bytes
    else
      _ -> text
    end
  end

  @doc "Whether the switch is there, also behind the mistake that `parse/2` ended with."
  @spec asked?([String.t()], String.t()) :: boolean
  def asked?(argv, switch), do: switch in Enum.take_while(argv, &(&1 != "--"))

  @doc "An error of the command line."
  @spec usage_error(String.t()) :: {:error, UsageError.t()}
  def usage_error(message), do: {:error, %UsageError{message: message}}

  @doc "The one argument that a task takes."
  @spec one_argument([String.t()], String.t(), String.t()) ::
          {:ok, String.t()} | {:error, UsageError.t()}
  def one_argument([argument], _name, _usage), do: {:ok, argument}
  def one_argument([], name, usage), do: usage_error("#{name} is missing\nusage: #{usage}")

  def one_argument(arguments, name, _usage),
    do: usage_error("one #{name} is expected, got: #{Enum.join(arguments, " ")}")

  @doc "Compiles the project, and starts this library with what it needs and no other application."
  @spec start() :: :ok | {:error, UsageError.t()}
  def start do
    configure()
    Config.load!()
    start_application()
  rescue
    error in ArgumentError ->
      usage_error("the configuration is not valid: #{Exception.message(error)}")
  end

  # What the compilers print is no result.
  defp configure do
    leader = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))

    try do
      Mix.Task.run("app.config")
    after
      Process.group_leader(self(), leader)
    end
  end

  # What the library logs as it starts is advice for a node that stays up, and Logger writes it to
  # standard output.
  defp start_application do
    {:ok, _started} = Application.ensure_all_started(:logger)
    Enum.each([Startup, Notices], &Logger.put_module_level(&1, :none))
    {:ok, _started} = Application.ensure_all_started(:cybernetic_wasm)
    Enum.each([Startup, Notices], &Logger.delete_module_level/1)
  end

  @doc "Loads a module or a component from a path, or from standard input where that is `-`."
  @spec load(Path.t(), keyword) :: {:ok, Module.loaded()} | {:error, Error.t()}
  def load(file, opts \\ [])

  def load("-", opts) do
    with {:error, %LoadError{} = error} <- Runtime.load_module(standard_input(), opts),
         do: {:error, %{error | source: "standard input"}}
  end

  def load(file, opts), do: Runtime.load_module(file, opts)

  @doc "What standard input has, to its end."
  @spec standard_input() :: {:bytes, binary}
  def standard_input do
    bytes = as_bytes([Process.group_leader()], fn -> IO.binread(:stdio, :eof) end)
    {:bytes, if(is_binary(bytes), do: bytes, else: "")}
  end

  @doc "Runs `function` while bytes pass through these devices unchanged: they take them for Latin-1."
  @spec as_bytes([pid | :standard_error], (() -> result)) :: result when result: term
  def as_bytes(devices, function) do
    encodings = Enum.map(devices, &{&1, encoding(&1)})
    set_encodings(for {device, _encoding} <- encodings, do: {device, [encoding: :latin1]})

    try do
      function.()
    after
      set_encodings(encodings)
    end
  end

  # One that is closed has none, and takes none.
  defp encoding(device) do
    case :io.getopts(device) do
      options when is_list(options) -> Keyword.take(options, [:encoding])
      {:error, _closed} -> []
    end
  end

  defp set_encodings(encodings) do
    for {device, encoding} <- encodings, do: :io.setopts(device, encoding)
    :ok
  end

  @doc "A sandbox with these options. What each takes is the library's to say."
  @spec sandbox(keyword) :: {:ok, Sandbox.t()} | {:error, UsageError.t()}
  def sandbox(options) do
    {:ok, Sandbox.new(options)}
  rescue
    error in ArgumentError -> usage_error(Exception.message(error))
  end

  @doc """
  Whether standard output is a terminal, which a stranger's bytes could steer. Where the system does not say, it is taken for a
  file.
  """
  @spec terminal?() :: boolean
  def terminal? do
    with true <- Process.group_leader() == Process.whereis(:user),
         {:ok, device} <- File.read_link("/proc/self/fd/1"),
         do: String.starts_with?(device, ["/dev/pts/", "/dev/tty", "/dev/console"]),
         else: (_none -> false)
  end

  @doc "Prints text to standard output."
  @spec print(iodata) :: :ok
  def print(text), do: text |> visible() |> IO.puts()

  @doc "Prints text to standard error."
  @spec warn(iodata) :: :ok
  def warn(text) do
    IO.puts(:stderr, visible(text))
  rescue
    # Standard error is gone: there is nobody to tell.
    _error in [ArgumentError, ErlangError] -> :ok
  end

  # Names come from the guest, and could steer the terminal or forge what it shows. The categories
  # are Unicode's control and format characters and its other ends of lines; lines may end.
  defp visible(text) do
    text
    |> IO.iodata_to_binary()
    |> valid()
    |> String.replace(~r/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u, fn <<character::utf8>> ->
      "\\u{#{Integer.to_string(character, 16)}}"
    end)
  end

  # What the user typed need not be UTF-8.
  defp valid(text), do: if(String.valid?(text), do: text, else: TextFormat.name(text))

  @doc "Prints the usage line, as an answer to `--help`."
  @spec help(String.t(), String.t()) :: :ok
  def help(task, usage), do: print("usage: mix #{task} #{usage}\nMore: mix help #{task}")

  @doc """
  Ends the task for an error: status 2 if it is the caller's, otherwise 1, or what `status:` says.

  With `json: true` the error is a JSON object on standard output, otherwise text on standard error.
  """
  @spec stop(error, String.t(), keyword) :: no_return
  def stop(error, task, opts) do
    if opts[:json] do
      print(JSON.encode([error: facts(error)] ++ Keyword.get(opts, :more, [])))
    else
      warn("mix #{task}: #{text(error, task)}")
    end

    exit({:shutdown, opts[:status] || if(error.blame == :caller, do: 2, else: 1)})
  end

  # Those of `LimitOptions`, by the limits that they set.
  @switches %{fuel: "--fuel", timeout: "--timeout", memory: "--max-memory"}

  # The library speaks of values and of options in Elixir.
  defp text(%UsageError{} = error, task), do: "#{error.message}\nMore: mix help #{task}"

  defp text(%CallError{reason: :type, path: nil} = error, _task),
    do: "argument #{error.index + 1} must be #{error.expected}, got: #{error.given}"

  defp text(%LinkError{} = error, _task) do
    "#{Exception.message(error)}\nHost functions can be given only from Elixir: see Cybernetic.WASM.Executor.call/4; " <>
      "--unknown-imports trap runs it without"
  end

  defp text(%LoadError{reason: :unsigned} = error, _task) do
    "#{Shown.path(error.source)} has no signature: #{error.detail}; mix wasm.sign makes one, and --signature says where it lies"
  end

  defp text(error, _task), do: message(error)

  # What a manifest says no switch raises.
  defp message(%LimitError{limit: limit, set_by: by} = error) when by != :manifest do
    case Map.fetch(@switches, limit) do
      {:ok, switch} -> LimitError.in_words(error, switch)
      :error -> Exception.message(error)
    end
  end

  defp message(error), do: Exception.message(error)

  @doc "An error as `--json` shows it."
  @spec facts(error) :: keyword
  def facts(%name{} = error) do
    kind = name |> Elixir.Module.split() |> List.last() |> String.replace_suffix("Error", "")

    facts =
      for {key, value} <- Map.from_struct(error),
          key not in [:__exception__, :message, :blame, :usage, :run, :stacktrace],
          value != nil,
          do: {key, fact(value)}

    [kind: String.downcase(kind), blame: error.blame, message: message(error)] ++ facts
  end

  # An import.
  defp fact({module, name}), do: %{module: module, name: name}
  defp fact(value), do: value
end
