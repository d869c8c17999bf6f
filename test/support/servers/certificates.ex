defmodule Cybernetic.WASM.Servers.Certificates do
  @moduledoc false
  # Certificates of an authority that is made for one test.

  @subject_alt_name {2, 5, 29, 17}
  @modern [key: {:namedCurve, :secp256r1}, digest: :sha256]

  @doc """
  A certificate for these names and addresses: the options of a server, and whom its clients have to trust. With `valid:
  {from, until}`, two dates, it is good between them.
  """
  def issue(names, opts \\ []) do
    %{server_config: server, client_config: client} =
      :public_key.pkix_test_data(%{
        server_chain: %{root: @modern, intermediates: [], peer: peer(names, opts)},
        client_chain: %{root: @modern, intermediates: [], peer: @modern}
      })

    # The client's are for clients that have a certificate: those here only trust.
    %{server: Keyword.take(server, [:cert, :key]), trusted: client[:cacerts]}
  end

  defp peer(names, opts) do
    # The record `Extension`, whose definition Debian has in a package of its own.
    names = {:Extension, @subject_alt_name, false, Enum.map(names, &name/1)}
    validity = if opts[:valid], do: [validity: opts[:valid]], else: []
    @modern ++ [extensions: [names]] ++ validity
  end

  defp name(address) when is_tuple(address),
    do: {:iPAddress, address |> Tuple.to_list() |> :binary.list_to_bin()}

  defp name(name), do: {:dNSName, to_charlist(name)}
end
