"""Attention: where in the source a decoder looks before each token of the target.

With e_s the encoder's states, h_t the decoder's, of H features, keys K e_s and values V e_s + b:

global      a_t = softmax_s(h_t·K e_s / √H); z_t = tanh(Σ_s a_ts V e_s + U h_t);
            p(y_t | …) = softmax(W z_t)                          (Luong et al. 2015)
monotonic   the place s_t in the source is a hidden variable that never moves to the left:
            p(s_t | s_{t−1}) = softmax over s ≥ s_{t−1} of h_t·K e_s / √H + jump(s − s_{t−1}),
            z_ts = tanh(V e_s + U h_t),
            p(y_t | …) = Σ_s p(s_t = s | y_<t) softmax(W z_ts)   (Wu and Cotterell 2019)

The second is exact: α_t(s) = p(s_t = s | y_≤t) is computed like the forward variable of a hidden
Markov model. The first place is the first token, from which the first step may move on.
"""
