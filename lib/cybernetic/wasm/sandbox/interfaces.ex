defmodule Cybernetic.WASM.Sandbox.Interfaces do
  @moduledoc false
  # The interfaces of WASI 0.2 that components are served: the core has the same list. All of them are linked, whatever is
  # granted: what is refused is refused when it is called.

  @names ~w(
    wasi:cli/environment wasi:cli/exit wasi:cli/stderr wasi:cli/stdin wasi:cli/stdout
    wasi:cli/terminal-input wasi:cli/terminal-output
    wasi:cli/terminal-stderr wasi:cli/terminal-stdin wasi:cli/terminal-stdout
    wasi:clocks/monotonic-clock wasi:clocks/wall-clock
    wasi:filesystem/preopens wasi:filesystem/types
    wasi:http/outgoing-handler wasi:http/types
    wasi:io/error wasi:io/poll wasi:io/streams
    wasi:random/insecure wasi:random/insecure-seed wasi:random/random
    wasi:sockets/instance-network wasi:sockets/ip-name-lookup wasi:sockets/network
    wasi:sockets/tcp wasi:sockets/tcp-create-socket wasi:sockets/udp wasi:sockets/udp-create-socket
  )

  @doc "Their names, without a version."
  @spec names() :: [String.t()]
  def names, do: @names

  @doc "Whether an interface, with its version, is one of them: any release of 0.2 is."
  @spec served?(String.t()) :: boolean
  def served?("wasi:" <> _ = interface) do
    case String.split(interface, "@", parts: 2) do
      [name, "0.2." <> patch] when name in @names -> patch != "" and digits?(patch)
      _other -> false
    end
  end

  def served?(_interface), do: false

  defp digits?(text), do: for(<<digit <- text>>, digit not in ?0..?9, do: digit) == []
end
