defmodule Cybernetic.WASM.Sandbox.Capabilities.Network.Peer do
  @moduledoc false
  # The peer that somebody asks about. The target may be a guest's word, so nothing here raises.

  # Rules are compared with it on a normal scheduler.
  @longest 1_000

  @typedoc "A name or an address, or a name and the address that it resolved to; and a port."
  @type t :: {name :: String.t() | nil, ip :: String.t() | nil, :inet.port_number()}

  @doc "The peer of a target whose name resolved to `address`, if that is not `nil`."
  @spec new(term, term) :: {:ok, t} | {:refused, String.t()}
  def new(target, address) do
    with {:ok, peer} <- peer(target), do: at(peer, address)
  end

  defp peer(%URI{host: host, port: port}), do: peer({host, port})

  defp peer(text) when is_binary(text) do
    with [_, host, port] <- Regex.run(~r/\A(\[[^\]]*\]|[^:]*):(\d{1,5})\z/, text),
         do: peer({host, String.to_integer(port)}),
         else: (_ -> {:refused, "the target is not host:port"})
  end

  defp peer({host, port}) when port in 1..65_535 do
    cond do
      is_tuple(host) -> with {:ok, ip} <- ip(host), do: {:ok, {nil, ip, port}}
      name?(host) -> {:ok, {host, nil, port}}
      true -> {:refused, "the target's host is not a name"}
    end
  end

  defp peer(_other), do: {:refused, "the target has no port from 1 to 65535"}

  @doc "Whether it can be a name at all."
  @spec name?(term) :: boolean
  def name?(name),
    do: is_binary(name) and byte_size(name) <= @longest and String.valid?(name)

  defp at(peer, nil), do: {:ok, peer}

  defp at({nil, ip, port}, address) do
    case ip(address) do
      {:ok, ^ip} -> {:ok, {nil, ip, port}}
      _other -> {:refused, "the target is another address than :address"}
    end
  end

  defp at({name, nil, port}, address) do
    with {:ok, ip} <- ip(address), do: {:ok, {name, ip, port}}
  end

  defp ip(text) when is_binary(text) do
    with true <- name?(text),
         {:ok, ip} <- :inet.parse_strict_address(String.to_charlist(text)),
         do: ip(ip),
         else: (_ -> {:refused, "the address is not an IP address"})
  end

  defp ip(tuple) do
    case :inet.ntoa(tuple) do
      {:error, _} -> {:refused, "the address is not an IP address"}
      text -> {:ok, to_string(text)}
    end
  end
end
